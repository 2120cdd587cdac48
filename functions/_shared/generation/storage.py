"""The Storage bucket `generations`: users' input images, and what was made for them.

Paths are <account>/inputs/<name> and <account>/<job>/<index>.<extension>.
"""

import json
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import aiohttp

from .. import settings
from ..errors import FunctionError, unavailable
from ..pool import connections
from ..tokens import User
from .media import IMAGE_BYTES, INLINE_BYTES, Media

BUCKET = "generations"
TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=5)
AWAY = "The storage does not answer; try again in a moment."


@lru_cache(maxsize=1)
def _session() -> aiohttp.ClientSession:
    return connections(settings.supabase_url(), TIMEOUT)


def _url(kind: str, path: str = "") -> str:
    return f"{settings.supabase_url()}/storage/v1/object{kind}/{BUCKET}{quote(path and '/' + path)}"


def _service() -> dict[str, str]:
    key = settings.secret_key()
    return {"apikey": key, "Authorization": f"Bearer {key}"}


async def upload(path: str, media: Media) -> None:
    """Store a file; one of the same path is replaced. Raises FunctionError 503."""
    headers = {**_service(), "Content-Type": media.mime_type, "x-upsert": "true"}
    await _call("POST", _url("", path), headers, data=media.data)


async def sign(paths: list[str]) -> list[str]:
    """URLs that open the files for anyone, until they expire. Raises FunctionError 503."""
    wanted = {"expiresIn": settings.signed_url_seconds(), "paths": paths}
    answer = await _call("POST", _url("/sign"), _service(), json=wanted)
    try:
        signed = {item["path"]: item["signedURL"] for item in answer}
        return [f"{settings.supabase_url()}/storage/v1{signed[path]}" for path in paths]
    except (KeyError, TypeError):
        raise unavailable(AWAY) from None


async def remove(paths: list[str]) -> None:
    """Delete files. Raises FunctionError 503."""
    await _call("DELETE", _url(""), _service(), json={"prefixes": paths})


async def download(user: User, path: str) -> bytes:
    """A file of the user's own, read with the user's rights: FunctionError 404 for any other, 413, 503."""
    body = await _read("/authenticated", path, _as(user), IMAGE_BYTES)
    if body is None:
        raise _too_large()
    return body


async def read_text(path: str) -> str | None:
    """A stored text; None when it is longer than what is given inline. Raises FunctionError 404, 503."""
    body = await _read("/authenticated", path, _service(), INLINE_BYTES)
    return None if body is None else body.decode("utf-8", errors="replace")


def _as(user: User) -> dict[str, str]:
    return {"apikey": settings.publishable_key(), "Authorization": f"Bearer {user.token}"}


def _too_large() -> FunctionError:
    return FunctionError(413, f"An input is larger than {IMAGE_BYTES} bytes.")


async def _read(kind: str, path: str, headers: dict[str, str], limit: int) -> bytes | None:
    """The body that GET gives; None as soon as it turns out to be longer than `limit`."""
    try:
        async with _session().get(_url(kind, path), headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                if answer.status >= 500 or answer.status == 429:
                    raise unavailable(AWAY)
                raise FunctionError(404, "There is no such file among your inputs.")
            body = bytearray()
            async for chunk in answer.content.iter_chunked(256 * 1024):
                body += chunk
                if len(body) > limit:
                    return None
            return bytes(body)
    except (aiohttp.ClientError, TimeoutError):
        raise unavailable(AWAY) from None


async def _call(method: str, url: str, headers: dict[str, str], **body: Any) -> Any:
    try:
        async with _session().request(method, url, headers=headers, allow_redirects=False, **body) as answer:
            if answer.status != 200:
                raise unavailable(f"The storage answered with status {answer.status}.")
            return json.loads(await answer.read())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        raise unavailable(AWAY) from None


async def close() -> None:
    """End the connections."""
    await _session().close()
    _session.cache_clear()
