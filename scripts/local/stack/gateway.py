"""The one port of the stack: checks the API key, then passes the request on.

    /rest/v1       PostgREST
    /auth/v1       auth/, in this process
    /functions/v1  functions/NAME/index.py, in this process
    /storage/v1    storage/, in this process
    /realtime/v1   realtime/, in this process, and the WebSocket
    /health        whether this process answers (no key needed)

Development only: keys are compared, nothing is rate limited, nothing is encrypted.
"""

import argparse
import asyncio
import contextlib
import hmac
import logging
from asyncio.transports import BaseTransport
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import parse_qsl

import aiohttp
import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from yarl import URL

from .auth import Auth
from .auth.tokens import Tokens
from .functions import Functions
from .keys import Keys
from .ports import HOST
from .realtime import Realtime
from .refusals import refuse_websocket
from .stack import GatewaySettings, Stack
from .storage import Storage
from .storage.names import configured_limit
from .ticker import tick_forever

log = logging.getLogger("gateway")

RawHeaders = list[tuple[bytes, bytes]]

# They concern one connection, not the message (RFC 9110, section 7.6.1).
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
     b"transfer-encoding", b"upgrade"}
)  # fmt: skip
FUNCTIONS, STORAGE, REALTIME = "/functions/v1", "/storage/v1", "/realtime/v1"
WEBSOCKET_BYTES = 1024 * 1024  # that a message may have
EXPOSED = (
    b"Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, "
    b"Transfer-Encoding, Range-Unit, Preference-Applied"
)


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The first header of that name (lower case), or None."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None


def below(path: str, prefix: str) -> bool:
    """Whether the path is the prefix or lies below it."""
    return path == prefix or path.startswith(prefix + "/")


@dataclass(frozen=True)
class ApiKeys:
    """Which API keys are valid, and the token each stands for."""

    keys: Keys

    def token(self, api_key: str) -> str | None:
        """The legacy JWT of a valid API key; None for any other."""
        valid = {
            self.keys.anon_key: self.keys.anon_key,
            self.keys.publishable_key: self.keys.anon_key,
            self.keys.service_role_key: self.keys.service_role_key,
            self.keys.secret_key: self.keys.service_role_key,
        }
        for known, token in valid.items():
            if hmac.compare_digest(known.encode(), api_key.encode()):
                return token
        return None


class Cors:
    """Answers preflight requests, and puts CORS headers on every other answer.

    Not for functions: as hosted, their own headers count, and they answer their preflights themselves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if below(scope["path"], FUNCTIONS):
            await self.app(scope, receive, send)
            return
        headers: RawHeaders = scope["headers"]
        if scope["method"] == "OPTIONS" and header(headers, b"access-control-request-method"):
            asked = (
                header(headers, b"access-control-request-headers") or "authorization, apikey, content-type"
            )
            answer = [
                (b"access-control-allow-origin", b"*"),
                (b"access-control-allow-methods", b"GET, HEAD, PUT, PATCH, POST, DELETE, OPTIONS"),
                (b"access-control-allow-headers", asked.encode("latin-1")),
                (b"access-control-max-age", b"3600"),
                (b"content-length", b"0"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": answer})
            await send({"type": "http.response.body", "body": b""})
            return

        async def with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    item for item in message["headers"] if not item[0].lower().startswith(b"access-control-")
                ]
                kept += [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED)]
                message = {**message, "headers": kept}
            await send(message)

        await self.app(scope, receive, with_cors)


class Proxy:
    """Passes requests to PostgREST as they are: method, path, query, headers, body, status."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Start the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """End the connection pool."""
        if self._session:
            await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        assert self._session is not None
        query: bytes = scope["query_string"]
        url = self.target + scope["path"] + (f"?{query.decode('latin-1')}" if query else "")
        headers = [
            (key.decode("latin-1"), value.decode("latin-1"))
            for key, value in scope["headers"]
            if key not in HOP_BY_HOP and key != b"host"
        ]
        has_body = any(key in (b"content-length", b"transfer-encoding") for key, _ in scope["headers"])
        try:
            async with self._session.request(
                scope["method"],
                URL(url, encoded=True),
                headers=headers,
                data=_body(receive) if has_body else None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            ) as answer:
                raw = [
                    (key.lower(), value) for key, value in answer.raw_headers if key.lower() not in HOP_BY_HOP
                ]
                await send({"type": "http.response.start", "status": answer.status, "headers": raw})
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except aiohttp.ClientConnectionError as error:
            log.warning("PostgREST is away: %s", error)
            # Not reached when the answer has begun: then the connection to the client breaks off.
            gone = {"message": "The upstream server is not reachable; `scripts/stack start` repairs it."}
            await JSONResponse(gone, 503)(scope, receive, send)


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise aiohttp.ClientConnectionError("the client went away")
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


class Gateway:
    """Routes by prefix, after the API key is checked."""

    # No API key needed, as hosted. A signed URL has its own token; what is public is for everybody.
    OPEN = ("/auth/v1/.well-known/jwks.json",)
    OPEN_TO_READ = (
        "/storage/v1/object/public/", "/storage/v1/object/info/public/", "/storage/v1/object/sign/",
    )  # fmt: skip
    OPEN_TO_WRITE = "/storage/v1/object/upload/sign/"

    def __init__(
        self,
        keys: ApiKeys,
        rest: ASGIApp,
        auth: ASGIApp,
        storage: ASGIApp,
        realtime: Realtime,
        functions: ASGIApp,
    ) -> None:
        self.keys = keys
        self.rest, self.auth, self.storage, self.functions = rest, auth, storage, functions
        self.realtime = realtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        path: str = scope["path"]
        if scope["type"] == "websocket":
            await self._websocket(path, scope, receive, send)
        elif path == "/health":
            await JSONResponse({"status": "ok"})(scope, receive, send)
        elif below(path, FUNCTIONS):
            # Functions look at tokens themselves; hosted ones need no API key either.
            await self.functions({**scope, "path": path.removeprefix(FUNCTIONS) or "/"}, receive, send)
        else:
            await self._with_key(path, scope, receive, send)

    async def _websocket(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path == f"{REALTIME}/websocket":
            await self.realtime.websocket(scope, receive, send)
        else:
            message = f"The local stack has a WebSocket at {REALTIME}/websocket, and none at {path}."
            await refuse_websocket(scope, receive, send, 404, message)

    async def _with_key(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers: RawHeaders = scope["headers"]
        query = scope["query_string"]
        reads = scope["method"] in ("GET", "HEAD")
        signed = scope["method"] == "PUT" and path.startswith(self.OPEN_TO_WRITE)
        if path not in self.OPEN and not signed and not (reads and path.startswith(self.OPEN_TO_READ)):
            api_key = header(headers, b"apikey")
            if api_key is None and b"apikey=" in query:
                api_key = dict(parse_qsl(query.decode("latin-1"))).get("apikey")
                # PostgREST would take it for a filter.
                query = b"&".join(part for part in query.split(b"&") if not part.startswith(b"apikey="))
            authorization = header(headers, b"authorization")
            # As hosted: Storage is content with a token, which it checks. Resumable uploads bring no more.
            if not api_key and authorization and below(path, STORAGE):
                await self._pass_on(path, {**scope, "query_string": query}, receive, send)
                return
            if not api_key:
                hint = "No `apikey` request header or url param was found."
                refusal = JSONResponse({"message": "No API key found in request", "hint": hint}, 401)
                await refusal(scope, receive, send)
                return
            token = self.keys.token(api_key)
            if token is None:
                hint = "Double check the API key: `scripts/stack status` prints the valid ones."
                await JSONResponse({"message": "Invalid API key", "hint": hint}, 401)(scope, receive, send)
                return
            if not authorization or authorization.removeprefix("Bearer ").strip() == api_key:
                headers = [item for item in headers if item[0] != b"authorization"]
                headers.append((b"authorization", f"Bearer {token}".encode()))
        await self._pass_on(path, {**scope, "headers": headers, "query_string": query}, receive, send)

    async def _pass_on(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """To the part that serves the path."""
        mounted = (
            ("/rest/v1", self.rest), ("/auth/v1", self.auth), (STORAGE, self.storage),
            (REALTIME, self.realtime.app),
        )  # fmt: skip
        for prefix, app in mounted:
            if below(path, prefix):
                # raw_path keeps escapes such as %2F that `path` has decoded.
                raw: bytes = scope.get("raw_path") or path.encode()
                rest = (
                    raw.decode("latin-1").removeprefix(prefix)
                    if app is self.rest
                    else path.removeprefix(prefix)
                )
                await app({**scope, "path": rest or "/"}, receive, send)
                return
        await JSONResponse({"message": f"No such path: {path}"}, 404)(scope, receive, send)


class WebSocket(WebSocketsSansIOProtocol):
    """One that the app can cut off when its client does not read: `abort` in the scope's state."""

    def connection_made(self, transport: BaseTransport) -> None:
        """Called when a connection is made."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "abort": self.transport.abort}


class Server(uvicorn.Server):
    """Lets the functions end before it stops serving: their last calls go through this very port."""

    def __init__(self, config: uvicorn.Config, functions: Functions) -> None:
        super().__init__(config)
        self._functions = functions
        self._ending = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal has the functions end, and then the server; a second ends it at once."""
        if self._ending or not self.started:
            super().handle_exit(sig, frame)
            return
        self._ending = True
        asyncio.get_running_loop().call_soon_threadsafe(self._begin_to_end, sig, frame)

    def _begin_to_end(self, sig: int, frame: FrameType | None) -> None:
        self._task = asyncio.create_task(self._end(sig, frame))

    async def _end(self, sig: int, frame: FrameType | None) -> None:
        try:
            await self._functions.close()
        finally:
            super().handle_exit(sig, frame)


def application(settings: GatewaySettings, root: Path, functions: Functions) -> ASGIApp:
    """The whole app of a stack, with its background task."""
    proxy = Proxy(settings.postgrest_url)
    auth = Auth(settings.keys, settings.auth_db_url, settings.issuer)
    storage = Storage(
        settings.keys, settings.storage_db_url, settings.storage_folder, settings.issuer,
        configured_limit(root / "supabase" / "config.toml"),
    )  # fmt: skip
    keys = ApiKeys(settings.keys)
    realtime = Realtime(Tokens(settings.keys, settings.issuer), settings.realtime_db_url, keys.token)
    gateway = Gateway(keys, proxy, auth.app, storage.app, realtime, functions)

    async def lifespan(receive: Receive, send: Send) -> None:
        async with contextlib.AsyncExitStack() as resources:
            await receive()
            await proxy.open()
            resources.push_async_callback(proxy.close)
            await auth.open()
            resources.push_async_callback(auth.close)
            await storage.open()
            resources.push_async_callback(storage.close)
            await realtime.open()
            resources.push_async_callback(realtime.close)
            if settings.ticker:
                ticker = asyncio.create_task(tick_forever(settings.db_url))
                resources.callback(ticker.cancel)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    served = Cors(gateway)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "websocket":
            await gateway(scope, receive, send)
        else:
            await served(scope, receive, send)

    return app


def main() -> None:
    """Serve one stack until a signal comes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", type=Path, required=True)
    arguments.add_argument("--name", required=True)
    chosen = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stack = Stack(chosen.root, chosen.name)
    log.info("For development only: sign-ups are confirmed at once and nothing is rate limited.")
    settings = stack.gateway_settings()
    functions = Functions(
        stack.root / "functions",
        stack.root / "supabase" / "config.toml",
        settings.function_environment(),
        Tokens(settings.keys, settings.issuer),
    )
    config = uvicorn.Config(
        application(settings, stack.root, functions),
        host=HOST,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws=WebSocket,
        ws_max_size=WEBSOCKET_BYTES,
        ws_per_message_deflate=False,  # as hosted; and a small frame cannot become a large one
        timeout_graceful_shutdown=3,
        # Longer than the 5 seconds of clients, as hosted: who ends an idle connection shall not be the one
        # that a request is on its way to.
        timeout_keep_alive=60,
    )
    Server(config, functions).run()


if __name__ == "__main__":
    main()
