"""Reading request bodies. Whatever is wrong with one is an AuthError of status 400, 413 or 422."""

import json
import re
from datetime import timedelta
from typing import Any, NoReturn

from starlette.requests import Request

from .errors import AuthError, weak_password

MAX_BODY = 1024 * 1024  # bytes
MIN_PASSWORD = 6  # characters
MAX_PASSWORD = 72  # bytes: bcrypt ignores the rest
EMAIL = re.compile(r"[^@\s<>\",;:()\[\]\\]+@[a-z0-9-]+(\.[a-z0-9-]+)+", re.IGNORECASE)
DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h)")
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

Json = dict[str, Any]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _storable(value: Any) -> bool:
    """Whether Postgres can keep it: no NUL, no half of a surrogate pair, at any depth."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return all(_storable(key) and _storable(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_storable(item) for item in value)
    return True


async def body(request: Request) -> Json:
    """The body as a JSON object; an empty body is {}."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise AuthError(413, "validation_failed", f"The request body is larger than {MAX_BODY} bytes")
    if not raw:
        return {}
    try:
        parsed = json.loads(raw, parse_constant=_no_constant)
        storable = _storable(parsed)
    except (ValueError, RecursionError) as error:
        raise AuthError(400, "bad_json", "Could not parse request body as JSON") from error
    if not isinstance(parsed, dict):
        raise AuthError(400, "bad_json", "Could not parse request body as JSON: not an object")
    if not storable:
        raise AuthError(
            400,
            "bad_json",
            "Could not parse request body as JSON: a text holds a character that cannot be stored",
        )
    return parsed


def text(params: Json, name: str) -> str | None:
    """An optional text; null and "" count as absent."""
    value = params.get(name)
    if value is not None and not isinstance(value, str):
        raise AuthError(400, "bad_json", f"Could not parse request body as JSON: {name} must be a text")
    return value or None


def mapping(params: Json, name: str) -> Json | None:
    """An optional object."""
    value = params.get(name)
    if value is not None and not isinstance(value, dict):
        raise AuthError(400, "bad_json", f"Could not parse request body as JSON: {name} must be an object")
    return value


def flag(params: Json, name: str) -> bool:
    """An optional boolean, false when absent."""
    value = params.get(name)
    if value is not None and not isinstance(value, bool):
        raise AuthError(
            400, "bad_json", f"Could not parse request body as JSON: {name} must be true or false"
        )
    return bool(value)


def email(params: Json) -> str | None:
    """An optional e-mail address, in lower case."""
    value = text(params, "email")
    if value is None:
        return None
    if len(value) > 255 or not EMAIL.fullmatch(value):
        raise AuthError(400, "validation_failed", "Unable to validate email address: invalid format")
    return value.lower()


def password(params: Json) -> str | None:
    """An optional new password, neither too short nor too long."""
    value = text(params, "password")
    if value is None:
        return None
    if len(value) < MIN_PASSWORD:
        raise weak_password(MIN_PASSWORD)
    if len(value.encode()) > MAX_PASSWORD:
        raise AuthError(400, "validation_failed", f"Password cannot be longer than {MAX_PASSWORD} characters")
    return value


def ban_duration(params: Json) -> timedelta | None:
    """For how long to ban, such as "24h" or "1h30m"; "none" is zero, which lifts a ban."""
    value = text(params, "ban_duration")
    if value is None:
        return None
    if value == "none":
        return timedelta(0)
    found = duration(value)
    if found is None:
        raise AuthError(400, "validation_failed", f"invalid format for ban duration: {value[:40]}")
    return found


def duration(value: str) -> timedelta | None:
    """A duration as Go writes it, a hundred years at most; None when it is none."""
    parts = DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        return None
    seconds = sum(float(number) * SECONDS[unit] for number, unit in parts)
    return timedelta(seconds=min(seconds, 100 * 365 * 86400))
