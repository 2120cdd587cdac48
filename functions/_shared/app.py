"""A function as an ASGI app: JSON errors, CORS headers on every answer, and no endless waiting for a body."""

import asyncio
import contextlib
import json
import logging
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from . import database
from .errors import FunctionError

log = logging.getLogger("functions")
# A line for each request that a function sends says nothing that the answer does not.
logging.getLogger("httpx").setLevel(logging.WARNING)

# Any origin: what a function does depends on a token in a header, never on a cookie.
CORS = {
    "Access-Control-Allow-Origin": "*",
    # What supabase-js sends, traces among it, and what these functions read.
    "Access-Control-Allow-Headers": (
        "authorization, apikey, content-type, idempotency-key, x-client-info, x-region, x-retry-count, "
        "traceparent, tracestate, baggage"
    ),
    "Access-Control-Expose-Headers": "Retry-After",
    "Access-Control-Max-Age": "3600",
}
JSON_LIMIT = 64 * 1024
_living: set[Starlette] = set()
# A body has this long, and more for each byte that has come: slow lines pass, and half-open ones end.
BODY_SECONDS = 10
BODY_RATE = 16 * 1024  # bytes per second
DRAINED = 32 * 1024 * 1024  # what is read of a body that is answered already, and thrown away

Handler = Callable[[Request], Awaitable[Response]]


class Body:
    """What has come of a request's body. An answer may be given before its end, such as 401 or 413."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = dict(scope["headers"])
        self._receive = receive
        self.whole = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers

    async def receive(self) -> Message:
        """The next message, noted."""
        message = await self._receive()
        self.whole = self.whole or not message.get("more_body", False)
        return message

    def drained_before_the_end(self, send: Send) -> Send:
        """Send the answer as it is, and end it when the rest of the body has come, or its time is over.

        Who is sent an answer and cut off while still sending may never see it.
        """

        async def ending(message: Message) -> None:
            if message["type"] != "http.response.body" or message.get("more_body", False):
                await send(message)
                return
            await send({**message, "more_body": True})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BODY_SECONDS):
                    left = DRAINED
                    while not self.whole and left > 0:
                        left -= len((await self.receive()).get("body", b""))
            await send({"type": "http.response.body", "body": b""})

        return ending


class Function:
    """The ASGI app around a handler. What the handler raises becomes a JSON answer with `errors` in it."""

    def __init__(self, handler: Handler, methods: Collection[str], errors: Mapping[str, Any]) -> None:
        self.handler = handler
        self.methods = methods
        self.errors = errors
        self.cors = {**CORS, "Access-Control-Allow-Methods": ", ".join((*methods, "OPTIONS"))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        body = Body(scope, receive)
        response = await self._answer(Request(scope, body.receive, send))
        response.headers.update(self.cors)
        if not body.whole:
            response.headers["Connection"] = "close"
            if response.status_code != 408:
                send = body.drained_before_the_end(send)
        await response(scope, body.receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204)
        try:
            if request.method not in self.methods:
                allowed = ", ".join(self.methods)
                raise FunctionError(
                    405, f"Only {allowed} is answered here.", headers={"Allow": f"{allowed}, OPTIONS"}
                )
            return await self.handler(request)
        except FunctionError as error:
            if error.status >= 500:
                log.error("%s: %s %s", request.url.path, error.code, error.message)
            return error.response(self.errors)
        except ClientDisconnect:
            return FunctionError(400, "The request broke off before its end.").response(self.errors)
        except Exception as error:
            # The frames, not the exception's own text, which may quote what a customer sent.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s: unexpected %s\n%s", request.url.path, type(error).__name__, frames)
            broken = FunctionError(500, "Something went wrong here; the function's log says more.")
            return broken.response(self.errors)


def function(
    handler: Handler,
    methods: Collection[str] = ("POST",),
    errors: Mapping[str, Any] = MappingProxyType({}),
    life: Callable[[], contextlib.AbstractAsyncContextManager[None]] = contextlib.nullcontext,
) -> Starlette:
    """The `app` of an index.py. It answers at every path: who mounts it says where it is.

    `errors` are fields of every error answer. The process serves within `life()`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        _living.add(app)
        try:
            async with life():
                yield
        finally:
            _living.discard(app)
            # Functions of one process share the connections, and one may still be at work.
            if not _living:
                await database.close()

    return Starlette(routes=[Route("/{path:path}", Function(handler, methods, errors))], lifespan=lifespan)


def client_key(request: Request) -> str | None:
    """The client's Idempotency-Key. FunctionError 400 when it is empty or longer than 255 characters."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 255:
        raise FunctionError(400, "Idempotency-Key must have 1 to 255 characters.")
    return key


async def read_body(request: Request, limit: int) -> bytes:
    """The body of at most `limit` bytes. Raises FunctionError as limited_stream()."""
    body = bytearray()
    async for chunk in limited_stream(request, limit):
        body += chunk
    return bytes(body)


async def limited_stream(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body piece by piece.

    Raises FunctionError 413 as soon as it turns out to be longer than `limit`, 408 when it does not come in
    time.
    """
    too_large = FunctionError(413, f"The body is larger than {limit} bytes; send less.")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 18 or int(declared) > limit:
        raise too_large
    pieces, seen = request.stream(), 0
    begun = asyncio.get_running_loop().time()
    while True:
        try:
            async with asyncio.timeout_at(begun + BODY_SECONDS + seen / BODY_RATE):
                chunk = await anext(pieces, None)
        except TimeoutError:
            raise FunctionError(408, "The body did not come in time; send it at once.") from None
        if chunk is None:
            return
        seen += len(chunk)
        if seen > limit:
            raise too_large
        yield chunk


async def read_json(request: Request, fields: Collection[str]) -> dict[str, Any]:
    """The JSON object in the body, an empty one when there is none.

    Raises FunctionError 400 when it is something else or has another field than `fields`, 413 beyond 64 KiB,
    408 when it does not come in time.
    """
    return json_object(await read_body(request, JSON_LIMIT), fields)


def json_object(body: bytes, fields: Collection[str]) -> dict[str, Any]:
    """The JSON object in `body`, as read_json()."""
    try:
        value = json.loads(body) if body.strip() else {}
        json.dumps(
            value, ensure_ascii=False
        ).encode()  # half a character, such as "\ud800", cannot be passed on
    except (ValueError, RecursionError):
        raise FunctionError(400, "The body is not JSON; send a JSON object.") from None
    if not isinstance(value, dict):
        raise FunctionError(400, "The body is not a JSON object; send one.")
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise FunctionError(400, f"Only these fields are known here: {', '.join(fields)}. ")
    return value
