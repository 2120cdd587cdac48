"""Where Stripe may send a person back to: an open redirect would lend our name to somebody's phishing."""

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from .errors import FunctionError

DEFAULT_PORTS = {"http": 80, "https": 443}
# Browsers take a backslash for a slash and drop control characters and blanks, so that they may see another
# host than urlsplit() does. Anything beyond ASCII has to be escaped in a URL anyway.
PLAIN = re.compile(r"[!-\[\]-~]{1,2048}")
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


def origin(url: str) -> str:
    """The origin of an absolute http(s) URL: scheme://host:port, lower case. Raises ValueError otherwise."""
    if not PLAIN.fullmatch(url):
        raise ValueError("not a plain URL")
    parts = urlsplit(url)
    # `port` raises ValueError when it is no number up to 65535.
    port = parts.port if parts.port is not None else DEFAULT_PORTS.get(parts.scheme)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not an absolute http(s) URL without user and password")
    if not HOST.fullmatch(parts.hostname):
        raise ValueError("not a host's name or address")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def allowed_redirect(value: Any, field: str, origins: Collection[str]) -> str:
    """The URL, unchanged, when its origin is one of `origins`; else FunctionError 400 names the field."""
    try:
        is_allowed = isinstance(value, str) and origin(value) in origins
    except ValueError:
        message = (
            f"{field} is not an absolute http or https URL; send one such as https://app.example.com/thanks."
        )
        raise FunctionError(400, message) from None
    if not is_allowed:
        raise FunctionError(
            400,
            f"{field} must be a URL of one of this app's own origins; ALLOWED_REDIRECT_ORIGINS lists them.",
        )
    return str(value)
