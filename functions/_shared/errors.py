"""The one error that a function answers with."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from starlette.responses import JSONResponse


class FunctionError(Exception):
    """An answer with an HTTP status other than 2xx.

    `message` is a full sentence for the caller, so nothing of a secret, a token or a customer may be in it.
    `code` is PT and the status unless the database gave one; `details` and `hint` are the database's.
    `extra` are further fields of the body.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        details: Any = None,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or f"PT{status}"
        self.details = details
        self.hint = hint
        self.headers = headers
        self.extra = extra

    def body(self) -> dict[str, Any]:
        """{"message", "error", "code"}, and "details" and "hint" where there are any.

        `error` is the same sentence: where supabase-py looks for it.
        """
        extra = {"details": self.details, "hint": self.hint}
        return {
            "message": self.message,
            "error": self.message,
            "code": self.code,
            **{key: value for key, value in extra.items() if value is not None},
        }

    def response(self, extra: Mapping[str, Any] = MappingProxyType({})) -> JSONResponse:
        """The answer. `extra` are fields of the body where the error has none of that name."""
        return JSONResponse({**extra, **self.body(), **self.extra}, self.status, self.headers)


def unavailable(message: str) -> FunctionError:
    """503: the same call may succeed in a moment."""
    return FunctionError(503, message, headers={"Retry-After": "5"})
