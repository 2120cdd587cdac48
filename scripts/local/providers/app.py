"""The HTTP server: paths, keys, faults and the log of calls around the providers."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from urllib.parse import quote

from aiohttp import web

from .aimock import Aimock, AimockError
from .calls import Call, Calls
from .checks import Complaint
from .controls import control_routes
from .faults import Fault, Faults
from .gemini import Gemini
from .openai import OpenAI
from .provider import Asked, Provider, Refused, Reply, digest
from .runway import Runway, Task
from .stability import Stability

log = logging.getLogger("providers")
HOST = "127.0.0.1"
BODY_LIMIT = 64 * 1024 * 1024  # bytes
KEYS = ("OPENAI_API_KEY", "GEMINI_API_KEY", "STABILITY_API_KEY", "RUNWAY_API_KEY")


class Dropped(Exception):  # noqa: N818 - done on purpose
    """The connection was cut."""


class World:
    """Everything that is remembered."""

    def __init__(self, keys: Mapping[str, str], port: int) -> None:
        self.aimock = Aimock()
        self.calls = Calls()
        self.faults = Faults()
        self.runway = Runway(keys["RUNWAY_API_KEY"], f"http://{HOST}:{port}")
        self.openai = OpenAI(keys["OPENAI_API_KEY"])
        self.gemini = Gemini(keys["GEMINI_API_KEY"], lambda path, body: self.aimock.ask("POST", path, body))
        self.stability = Stability(keys["STABILITY_API_KEY"])


class Front:
    """Answers each request, and writes it down."""

    def __init__(self, world: World) -> None:
        self.world = world

    # -- what every call goes through ----------------------------------------------------------

    async def _serve(
        self, request: web.Request, provider: Provider, kind: str, work: Callable[[Call], Awaitable[Reply]]
    ) -> web.StreamResponse:
        call = self.world.calls.begin(provider.name, kind, request.method, request.path)
        try:
            reply = await work(call)
        except Dropped:
            assert request.transport
            request.transport.abort()
            return web.Response()  # goes nowhere
        except Refused as refused:
            reply = refused.reply
        except Complaint as complaint:
            reply = provider.complain(complaint)
        except web.HTTPRequestEntityTooLarge:
            reply = provider.trouble(413, "The request body is too large.")
        except AimockError as error:
            reply = provider.trouble(503, str(error))
        except Exception:
            log.exception("%s %s broke off", request.method, request.path)
            reply = provider.trouble(500, "The local stand-in has a bug; its log says more.")
        call.status = reply.status
        call.outputs = [digest(data) for data in reply.outputs]
        return web.Response(
            body=reply.body,
            status=reply.status,
            headers={**reply.headers, "Content-Type": reply.content_type},
        )

    @staticmethod
    def _strike(call: Call, provider: Provider, fault: Fault) -> None:
        """Let a fault happen that ends the call. Returns when it is of another sort."""
        call.fault = fault.kind
        if fault.kind == "drop":
            raise Dropped
        if fault.kind == "rate_limit":
            reply = provider.trouble(429, "Rate limit reached. Please try again later.")
            reply.headers["Retry-After"] = str(fault["retry_after"])
            raise Refused(reply)
        if fault.kind == "error":
            raise Refused(
                provider.trouble(fault["status"], "The server had an error. Please try again later.")
            )
        if fault.kind == "turned_down":
            raise Refused(provider.turn_down(fault["why"], call.model or "the model"))
        whole = fault.whole_answer
        if whole is not None:
            raise Refused(Reply(whole, content_type="text/html" if whole else "application/json"))

    async def _stumble(self, call: Call, provider: Provider, prompt: str) -> None:
        """The faults of a call that only reads."""
        await asyncio.sleep(self.world.faults.delay(provider.name, call.kind, prompt))
        fault = self.world.faults.take(provider.name, call.kind, prompt)
        if fault:
            self._strike(call, provider, fault)

    # -- create --------------------------------------------------------------------------------

    def create(self, provider: Provider) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler of what costs money."""

        async def work(request: web.Request, call: Call) -> Reply:
            faults = self.world.faults
            provider.authorize(request)
            early = faults.at_the_door(provider.name, "create")
            if early:
                self._strike(call, provider, early)
            asked: Asked = await provider.read(request)
            call.model, call.n, call.prompt = asked.model, asked.n, asked.prompt
            fault = faults.take(provider.name, "create", asked.prompt)
            if fault and fault.at_the_door:
                self._strike(call, provider, fault)
            refused = fault is not None and fault.kind == "refusal" and fault["stage"] == "input"
            call.accepted = not refused or provider is self.world.runway  # whose tasks fail later
            await asyncio.sleep(faults.delay(provider.name, "create", asked.prompt))
            if fault:
                self._strike(call, provider, fault)
            reply = await provider.answer(asked, fault)
            call.task = reply.task
            return reply

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, provider, "create", lambda call: work(request, call))

        return handle

    # -- Runway's tasks and files --------------------------------------------------------------

    def _task(self, request: web.Request, call: Call) -> Task:
        task = self.world.runway.tasks.get(request.match_info["id"])
        call.task = request.match_info["id"]
        if task is None:
            raise Refused(self.world.runway.trouble(404, "Not found."))
        call.model, call.prompt = task.asked.model, task.asked.prompt
        return task

    async def poll(self, request: web.Request) -> web.StreamResponse:
        """GET of a task."""

        async def work(call: Call) -> Reply:
            self.world.runway.authorize(request)
            task = self._task(request, call)
            await self._stumble(call, self.world.runway, task.asked.prompt)
            return self.world.runway.poll(task)

        return await self._serve(request, self.world.runway, "poll", work)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """DELETE of a task: it ends, and is not found from then on."""

        async def work(call: Call) -> Reply:
            self.world.runway.authorize(request)
            task = self._task(request, call)
            await self._stumble(call, self.world.runway, task.asked.prompt)
            self.world.runway.tasks.pop(task.id, None)
            return Reply(b"", 204)

        return await self._serve(request, self.world.runway, "cancel", work)

    async def fetch(self, request: web.Request) -> web.StreamResponse:
        """GET of a file: the URL is all it takes."""

        async def work(call: Call) -> Reply:
            task = self._task(request, call)
            await self._stumble(call, self.world.runway, task.asked.prompt)
            if request.path.endswith("/moved.mp4"):
                return Reply(b"", 302, headers={"Location": self.world.runway.moved(task)})
            return self.world.runway.video(task)

        return await self._serve(request, self.world.runway, "fetch", work)

    # -- the rest of OpenAI and Gemini ---------------------------------------------------------

    def other(
        self, provider: Provider, prefix: str
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler of what aimock answers."""

        async def work(request: web.Request) -> Reply:
            provider.authorize(request)
            query = "&".join(f"{quote(k)}={quote(v)}" for k, v in request.query.items() if k != "key")
            path = request.rel_url.raw_path.removeprefix(prefix) + (f"?{query}" if query else "")
            kind = request.headers.get("Content-Type", "application/json")
            return await self.world.aimock.ask(request.method, path, await request.read(), kind)

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, provider, "other", lambda _: work(request))

        return handle


def application(world: World, refuse: Callable[[float], None]) -> web.Application:
    """The whole app. `refuse` closes the port for so many seconds."""
    front = Front(world)
    app = web.Application(client_max_size=BODY_LIMIT)

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    openai, gemini = front.create(world.openai), front.create(world.gemini)
    app.add_routes(
        [
            web.get("/health", health),
            *control_routes(world.calls, world.faults, world.runway, refuse),
            web.post("/openai/v1/images/generations", openai),
            web.post("/openai/v1/images/edits", openai),
            web.post("/gemini/v1beta/models/{model:[^:/]+}:generateContent", gemini),
            web.post("/stability/v2beta/stable-image/generate/{model}", front.create(world.stability)),
            web.post("/runway/v1/{what:text_to_video|image_to_video}", front.create(world.runway)),
            web.get("/runway/v1/tasks/{id}", front.poll),
            web.delete("/runway/v1/tasks/{id}", front.cancel),
            web.get("/outputs/{id}.mp4", front.fetch),
            web.get("/outputs/{id}/moved.mp4", front.fetch),
            web.route("*", "/openai/{rest:.*}", front.other(world.openai, "/openai")),
            web.route("*", "/gemini/{rest:.*}", front.other(world.gemini, "/gemini")),
        ]
    )

    async def with_aimock(_: web.Application) -> AsyncIterator[None]:
        await world.aimock.open()
        yield
        await world.aimock.close()

    app.cleanup_ctx.append(with_aimock)
    return app


class Server:
    """The app on its port."""

    def __init__(self, keys: Mapping[str, str], port: int) -> None:
        self.port = port
        self._runner = web.AppRunner(application(World(keys, port), self._begin_refusal), access_log=None)
        self._site: web.TCPSite | None = None
        self._refusal: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, HOST, self.port, backlog=1024, reuse_address=True)
        await self._site.start()

    async def stop(self) -> None:
        """Stop listening and end aimock."""
        if self._refusal:
            self._refusal.cancel()
        await self._runner.cleanup()

    def _begin_refusal(self, seconds: float) -> None:
        self._refusal = asyncio.create_task(self._refuse(seconds))

    async def _refuse(self, seconds: float) -> None:
        await asyncio.sleep(0.05)  # the answer to who asked for it
        assert self._site and self._runner.server
        await self._site.stop()
        for connection in list(self._runner.server.connections):
            if connection.transport:
                connection.transport.abort()  # a kept-alive one would still be answered
        await asyncio.sleep(seconds)
        while True:
            with contextlib.suppress(OSError):
                await self._listen()
                return
            await asyncio.sleep(0.05)
