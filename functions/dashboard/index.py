"""GET: the page where users see their credits, and the files of the elements for other pages.

The page is one document, which signs the user in by itself; it knows the project's address and its
publishable key, and nothing that is secret. The files are the same for everybody, and open to any origin.
"""

import hashlib
import html
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import jwt
from starlette.requests import Request
from starlette.responses import Response

from _shared import settings
from _shared.app import function
from _shared.errors import FunctionError

STATIC = Path(__file__).with_name("static")
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".txt": "text/plain"}
# The files are named in the query: the page may be served from any path, with a slash at its end or none.
DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Credits</title>
<link rel="stylesheet" href="?file=page.css">
<script type="module" src="?file=page.js"></script>
</head>
<body data-url="{url}" data-key="{key}"></body>
</html>
"""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src {api} {socket}; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types lit-html"
)
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


@dataclass(frozen=True)
class Asset:
    """A built file, with what its content is called."""

    content: bytes
    media_type: str
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """The built files by name. What is not among them is not served, whatever a path looks like."""
    found = {}
    for path in sorted(STATIC.rglob("*")):
        if path.suffix in TYPES:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            found[path.relative_to(STATIC).as_posix()] = Asset(content, TYPES[path.suffix], tag)
    return found


def is_secret(key: str) -> bool:
    """Whether a key opens more than what everybody may see."""
    if key.startswith("sb_secret_"):
        return True
    try:
        role = jwt.decode(key, options={"verify_signature": False}).get("role")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return False
    return role != "anon"


def document() -> Response:
    """The page. FunctionError 500 when it was given a secret key."""
    url, key = settings.supabase_url(), settings.publishable_key()
    if is_secret(key):
        raise FunctionError(
            500, "The publishable key that is set here is a secret key; the page is not served with it."
        )
    api = urlsplit(url)
    socket = f"{'wss' if api.scheme == 'https' else 'ws'}://{api.netloc}"
    return Response(
        DOCUMENT.format(url=html.escape(url), key=html.escape(key)),
        media_type="text/html",
        headers={
            **HEADERS,
            "Content-Security-Policy": POLICY.format(api=f"{api.scheme}://{api.netloc}", socket=socket),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "X-Frame-Options": "DENY",
        },
    )


async def dashboard(request: Request) -> Response:
    """Answers with the page, or with one of the files; 404 for any other name."""
    name = request.query_params.get("file") or str(request.path_params["path"]).strip("/")
    if not name:
        return document()
    asset = assets().get(name)
    if asset is None:
        raise FunctionError(404, "There is no such file.")
    headers = {**HEADERS, "ETag": asset.tag, "Cross-Origin-Resource-Policy": "cross-origin"}
    if asset.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


app = function(dashboard, methods=("GET",))
