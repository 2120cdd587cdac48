"""The WebSocket at /realtime/v1/websocket, and broadcasts by HTTP."""

import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected

from ..auth.tokens import Tokens
from ..refusals import refuse_websocket
from .connection import Connection
from .frames import VERSIONS, Broadcast, dumps
from .hub import UNREACHABLE, Hub
from .store import Store
from .tokens import TokenError, read

log = logging.getLogger("realtime")

MOST_CLIENTS = 1000
MOST_BYTES = 1024 * 1024  # of a broadcast by HTTP
Json = dict[str, Any]


class InvalidError(Exception):
    """A request that is not one: status and sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Realtime:
    """The app for one stack: `websocket` and, for HTTP, `app`; close() at the end.

    `token_of` gives the legacy token that a valid API key stands for.
    """

    def __init__(self, tokens: Tokens, db_url: str, token_of: Callable[[str], str | None]) -> None:
        self._tokens, self._token_of = tokens, token_of
        self._store = Store(db_url)
        self._hub = Hub(self._store, db_url)
        self._clients = 0
        self.app = Starlette(
            routes=[
                Route("/api/broadcast", self._batch, methods=["POST"]),
                Route("/api/broadcast/{topic:path}/events/{event}", self._single, methods=["POST"]),
            ],
            exception_handlers={HTTPException: _absent, InvalidError: _invalid, ClientDisconnect: _gone},
        )

    async def open(self) -> None:
        """Make ready."""
        await self._store.open()

    async def close(self) -> None:
        """End the stream of changes and disconnect."""
        await self._hub.close()
        await self._store.close()

    # -- the WebSocket ---------------------------------------------------------------------------

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        api_key = headers.get("apikey") or query.get("apikey", [""])[0]
        version = query.get("vsn", ["1.0.0"])[0]
        token = self._token_of(api_key)
        if token is None:
            message = "Invalid API key" if api_key else "No API key found in request"
            hint = "`scripts/stack status` prints the keys; clients send one as `apikey`."
            await refuse_websocket(scope, receive, send, 401, message, hint)
        elif version not in VERSIONS:
            await refuse_websocket(
                scope,
                receive,
                send,
                400,
                f"The local Realtime speaks vsn {' and '.join(VERSIONS)}, not this one",
            )
        elif self._clients >= MOST_CLIENTS:
            await refuse_websocket(scope, receive, send, 429, "Too many connected users")
        else:
            known = {name: value for name, value in headers.items() if name.startswith("x-")}
            await self._serve(
                Connection(self._hub, self._tokens, version, token, known), scope, receive, send
            )

    async def _serve(self, connection: Connection, scope: Scope, receive: Receive, send: Send) -> None:
        self._clients += 1
        try:
            await receive()
            await send({"type": "websocket.accept"})
            if not await connection.serve(receive, send):
                scope["state"]["abort"]()
                raise ClientDisconnected
        finally:
            self._clients -= 1

    # -- HTTP ------------------------------------------------------------------------------------

    async def _batch(self, request: Request) -> Response:
        """{messages: [{topic, event, payload, private?}]} -> 202."""
        try:
            messages = json.loads(await _body(request))["messages"]
            told = [
                (
                    (each.get("private") is True, each["topic"]),
                    Broadcast(each["event"], dumps(each["payload"])),
                )
                for each in messages
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidError(
                422, "`messages` has to be a list of {topic, event, payload, private}"
            ) from error
        if not all(isinstance(text, str) for topic, sent in told for text in (topic[1], sent.event)):
            raise InvalidError(422, "`topic` and `event` have to be texts")
        for topic, sent in told:
            await self._send(request, topic, sent)
        return Response(status_code=202)

    async def _single(self, request: Request) -> Response:
        """One message: its payload is the body, JSON or bytes -> 202."""
        content: str | bytes = await _body(request)
        if not request.headers.get("content-type", "").startswith("application/octet-stream"):
            try:
                content = dumps(json.loads(content))
            except ValueError as error:
                raise InvalidError(422, "the body has to be JSON, or application/octet-stream") from error
        topic = (request.query_params.get("private") == "true", request.path_params["topic"])
        await self._send(request, topic, Broadcast(request.path_params["event"], content))
        return Response(status_code=202)

    async def _send(self, request: Request, topic: tuple[bool, str], sent: Broadcast) -> None:
        """To who listens. Who may not write to a private topic is not told, as hosted."""
        private, name = topic
        try:
            claims = read(
                self._tokens, request.headers.get("authorization", "").removeprefix("Bearer ").strip()
            )
        except TokenError as error:
            raise InvalidError(401, str(error).partition(": ")[2]) from error
        if private:
            try:
                rights = await self._store.rights(name, claims, dict(request.headers))
            except (psycopg.OperationalError, PoolTimeout) as error:
                raise InvalidError(503, UNREACHABLE) from error
            except psycopg.Error as error:
                log.error("A policy on realtime.messages failed: %s", str(error).strip())
                return
            if not rights.write_broadcast:
                return
        self._hub.broadcast(topic, sent)


async def _body(request: Request) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MOST_BYTES:
            raise InvalidError(413, f"The request body is larger than {MOST_BYTES} bytes")
    return bytes(raw)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidError)
    return JSONResponse({"message": error.message}, error.status)


async def _absent(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    message = f"The local Realtime has no {what}: it serves the WebSocket and broadcasts"
    return JSONResponse({"message": message}, error.status_code)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)
