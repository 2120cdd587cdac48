"""httpx on aiohttp's connections: a call takes a third of the processor time that it takes on httpx's own.

httpx looks at all of its connections twice per call. The package httpx-aiohttp does the same as this file,
but takes a connection that broke after the request was sent for one that was never made.
"""

from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any

import aiohttp
import httpx

# The last two: a proxy that lets nothing through, and an address that is none.
NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
PUT_TOGETHER = 1024 * 1024  # bytes of a request; one piece takes less time than its parts
# To parse a URL takes as long as all else of making a request.
parsed_url = lru_cache(maxsize=64)(httpx.URL)


class TooLongError(httpx.TransportError):
    """The answer's body is longer than the client's limit."""


class Body(httpx.AsyncByteStream):
    """An answer's body as it comes, still encoded. With a limit, it has to come as it is, and no longer."""

    def __init__(self, answer: aiohttp.ClientResponse, limit: int | None) -> None:
        self.answer = answer
        self.limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.limit is not None and "content-encoding" in self.answer.headers:
            raise httpx.DecodingError("A compressed body could unpack to any length.")
        seen = 0
        try:
            async for chunk in self.answer.content.iter_any():
                seen += len(chunk)
                if self.limit is not None and seen > self.limit:
                    raise TooLongError(f"The body is longer than {self.limit} bytes.")
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(str(error)) from error

    async def aclose(self) -> None:
        """Give the connection back, or end it when not all was read."""
        self.answer.close()


class Transport(httpx.AsyncBaseTransport):
    """What httpx.AsyncClient takes as `transport`. Limits of time are the session's own.

    `limit`: a body of more bytes than that is not read. A client with a limit has to ask for
    `Accept-Encoding: identity`.
    """

    def __init__(self, session: aiohttp.ClientSession, limit: int | None = None) -> None:
        self.session = session
        self.limit = limit

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it. After httpx.ConnectError nothing of a POST was sent; after ReadError it may have been."""
        try:
            answer = await self.session.request(
                request.method,
                str(request.url),
                headers=request.headers.multi_items(),
                data=await _content(request),
                allow_redirects=False,
                auto_decompress=False,  # that is for httpx
            )
        except NOT_SENT as error:
            raise httpx.ConnectError(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(str(error)) from error
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=Body(answer, self.limit))

    async def aclose(self) -> None:
        """End the connections."""
        await self.session.close()


async def _content(request: httpx.Request) -> Any:
    """What aiohttp takes as `data`: large files piece by piece, not put together in memory once more."""
    large = int(request.headers.get("content-length", 0)) > PUT_TOGETHER
    if large and not isinstance(request.stream, httpx.ByteStream):
        return request.stream
    return await request.aread() or None


class NoCookies(httpx.Cookies):
    """A jar that stays empty."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Keep nothing."""


class Client(httpx.AsyncClient):
    """httpx.AsyncClient for calls of many users: no cookie of one call comes with the next.

    It takes less processor time, too: httpx looks for cookies, and parses the URL twice, at every call.
    """

    NONE = NoCookies()

    @property
    def cookies(self) -> httpx.Cookies:
        """None, at any time."""
        return self.NONE

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        raise TypeError("This client keeps no cookies.")

    def build_request(
        self, method: str, url: httpx.URL | str, *, params: Any = None, **options: Any
    ) -> httpx.Request:
        """As httpx.AsyncClient.build_request()."""
        return super().build_request(method, parsed_url(url), params=params or None, **options)
