"""The Storage bucket `generations`: users' input images, and what was made for them.

Paths are <account>/inputs/<name> and <account>/<job>/<index>.<extension>.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

import aiohttp
import httpx
from storage3 import AsyncStorageClient

from supabase import AsyncClient, AsyncClientOptions

from .. import settings
from ..errors import FunctionError, unavailable
from ..pool import connections
from ..tokens import User
from ..transport import Client, TooLongError, Transport
from .media import IMAGE_BYTES, INLINE_BYTES, Media

BUCKET = "generations"
TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=5)
AWAY = "The storage does not answer; try again in a moment."


class StatusError(Exception):
    """An answer that is not 200. The client's own errors often tell another status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def _check(response: httpx.Response) -> None:
    if response.status_code != 200:
        with suppress(httpx.RequestError):
            await response.aread()  # only then the connection is kept
        raise StatusError(response.status_code)


@lru_cache(maxsize=1)
def _session() -> aiohttp.ClientSession:
    """The one pool of connections, which all clients here share."""
    return connections(settings.supabase_url(), TIMEOUT)


@lru_cache(maxsize=3)
def _http(limit: int | None) -> Client:
    """For answers of at most `limit` bytes. Redirects are not followed."""
    return Client(
        transport=Transport(_session(), limit),
        event_hooks={"response": [_check]},
        headers={"Accept-Encoding": "identity"},
        follow_redirects=False,
    )


@lru_cache(maxsize=3)
def _service(url: str, key: str, limit: int | None) -> AsyncClient:
    return AsyncClient(url, key, AsyncClientOptions(httpx_client=_http(limit)))


def _service_client(limit: int | None = None) -> AsyncStorageClient:
    """The client with the secret key, for answers of at most `limit` bytes."""
    return _service(settings.supabase_url(), settings.secret_key(), limit).storage


def _user_client(user: User) -> AsyncStorageClient:
    """A client that has this user's token, for one call: no other call can find it there."""
    headers = {"apikey": settings.publishable_key(), "Authorization": f"Bearer {user.token}"}
    url = f"{settings.supabase_url()}/storage/v1/"
    return AsyncStorageClient(url, headers, http_client=_http(IMAGE_BYTES))


@contextmanager
def _failures() -> Iterator[None]:
    """Turn whatever goes wrong into FunctionError 503: the caller of the function is not to blame."""
    try:
        yield
    except StatusError as error:
        raise unavailable(f"The storage answered with status {error.status}.") from None
    except (httpx.RequestError, ValueError, KeyError, TypeError):
        raise unavailable(AWAY) from None


async def upload(path: str, media: Media) -> None:
    """Store a file; one of the same path is replaced. Raises FunctionError 503."""
    with _failures():
        await (
            _service_client()
            .from_(BUCKET)
            .upload(
                path, media.data, {"content-type": media.mime_type, "upsert": "true", "cache-control": "0"}
            )
        )


async def sign(paths: list[str]) -> list[str]:
    """URLs that open the files for anyone, until they expire. Raises FunctionError 503."""
    with _failures():
        answer = (
            await _service_client().from_(BUCKET).create_signed_urls(paths, settings.signed_url_seconds())
        )
        signed = {item["path"]: item["signedURL"] for item in answer if item["signedURL"]}
        return [str(signed[path]) for path in paths]


async def remove(paths: list[str]) -> None:
    """Delete files. Raises FunctionError 503."""
    with _failures():
        await _service_client().from_(BUCKET).remove(paths)


async def download(user: User, path: str) -> bytes:
    """A file of the user's own, read with the user's rights: FunctionError 404 for any other, 413, 503."""
    body = await _read(_user_client(user), path)
    if body is None:
        raise FunctionError(413, f"An input is larger than {IMAGE_BYTES} bytes.")
    return body


async def read_text(path: str) -> str | None:
    """A stored text; None when it is longer than what is given inline. Raises FunctionError 404, 503."""
    body = await _read(_service_client(INLINE_BYTES), path)
    return None if body is None else body.decode("utf-8", errors="replace")


async def _read(client: AsyncStorageClient, path: str) -> bytes | None:
    """A whole file; None as soon as it turns out to be longer than the client's limit."""
    try:
        return await client.from_(BUCKET).download(path)
    except StatusError as error:
        if error.status >= 500 or error.status == 429:
            raise unavailable(AWAY) from None
        raise FunctionError(404, "There is no such file among your inputs.") from None
    except TooLongError:
        return None
    except httpx.RequestError:
        raise unavailable(AWAY) from None


async def close() -> None:
    """End the connections."""
    if _session.cache_info().currsize:
        await _session().close()
    for kept in (_session, _http, _service):
        kept.cache_clear()
