"""Errors, in the two shapes that Supabase Auth gives them."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

API_VERSION_HEADER = "x-supabase-api-version"
API_VERSION = "2024-01-01"


class AuthError(Exception):
    """A refusal: HTTP status, a code that programs compare, a sentence for people."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more

    def response(self, request: Request) -> JSONResponse:
        """Old clients get {"code": status, "error_code", "msg"}; newer ones name an API version in a
        header and get {"code", "message"}.
        """
        if request.headers.get(API_VERSION_HEADER, "") >= API_VERSION:
            body = {"code": self.code, "message": self.message, **self.more}
            return JSONResponse(body, self.status, {API_VERSION_HEADER: API_VERSION})
        return JSONResponse(
            {"code": self.status, "error_code": self.code, "msg": self.message, **self.more}, self.status
        )


def weak_password(minimum: int) -> AuthError:
    """The password is shorter than `minimum` characters."""
    message = f"Password should be at least {minimum} characters."
    return AuthError(422, "weak_password", message, weak_password={"reasons": ["length"]})


def invalid_credentials() -> AuthError:
    """Unknown e-mail or wrong password: the same answer for both."""
    return AuthError(400, "invalid_credentials", "Invalid login credentials")
