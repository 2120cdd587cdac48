"""Errors as Stripe tells them: `{"error": {"type", "code", "param", "message"}}` with an HTTP status."""

from typing import Any

JSON = dict[str, Any]


class ApiError(Exception):
    """A refused request.

    `keep` True leaves what was done until then in place, as a declined card leaves its failed charge.
    `validation` True means that nothing began, so that no idempotent result is stored.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        keep: bool = False,
        validation: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.param = status, kind, code, param
        self.keep, self.validation, self.more = keep, validation, more

    def body(self, request_id: str) -> JSON:
        """The answer."""
        error: JSON = {"type": self.kind, "message": str(self)}
        if self.code:
            error["code"] = self.code
            error["doc_url"] = f"https://docs.stripe.com/error-codes/{self.code.replace('_', '-')}"
        if self.param:
            error["param"] = self.param
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": {**error, **self.more}}


def missing_object(kind: str, object_id: str, param: str) -> ApiError:
    """404 for an id that is named in the path, 400 for one in the parameters, as Stripe does."""
    name = {"checkout.session": "checkout.session"}.get(kind, kind.replace("_", " "))
    return ApiError(
        f"No such {name}: '{object_id}'",
        status=404 if param == "id" else 400,
        code="resource_missing",
        param=param,
    )


def invalid(message: str, param: str, code: str | None = None) -> ApiError:
    """A parameter of the wrong type or out of range."""
    return ApiError(message, code=code, param=param, validation=True)
