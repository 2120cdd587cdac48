"""Mounts functions/NAME/index.py at /functions/v1/NAME, as a deployed function would be.

As hosted, a request needs a token of this project unless `[functions.NAME] verify_jwt` in
supabase/config.toml is false; then the function sees to it itself. CORS headers are the function's own
business, preflight requests included.
"""

import asyncio
import importlib.util
import logging
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .auth.errors import AuthError
from .auth.tokens import Tokens

log = logging.getLogger("functions")

# How long requests under way may take when the stack stops.
GRACE_SECONDS = 10
# So that a page may read why its call did not reach a function.
CORS = {"Access-Control-Allow-Origin": "*"}


class Lifespan:
    """One function's lifespan: its startup when it is loaded, its shutdown when the stack stops."""

    def __init__(self, app: ASGIApp) -> None:
        self._received: asyncio.Queue[Message] = asyncio.Queue()
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._received.get, self._sent.put)
        except Exception as error:
            # An app need not know of lifespans. One that knows and fails says so in a message.
            log.debug("No lifespan: %r", error)
        finally:
            self._sent.put_nowait({"type": "lifespan.over"})

    async def tell(self, event: str) -> None:
        """Send `lifespan.EVENT` and wait until the app is through with it; RuntimeError when it failed."""
        if self._task.done():
            return
        self._received.put_nowait({"type": f"lifespan.{event}"})
        answer = await self._sent.get()
        if answer["type"] == f"lifespan.{event}.failed":
            raise RuntimeError(answer.get("message") or f"its {event} failed")


class Functions:
    """An ASGI app that loads each function at its first request. Its `app` sees paths below /NAME."""

    def __init__(self, folder: Path, config: Path, environment: Mapping[str, str], tokens: Tokens) -> None:
        self.folder = folder
        self.config = config
        self.tokens = tokens
        self._apps: dict[str, tuple[ASGIApp, bool]] = {}
        self._lifespans: dict[str, Lifespan] = {}
        self._starting = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._ending = False
        os.environ.update(environment)
        if folder.is_dir():
            sys.path.insert(0, str(folder))  # for _shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface; the path starts with /NAME."""
        _, name, rest = (*scope["path"].split("/", 2), "")[:3]
        if self._ending:
            gone = {"code": "BOOT_ERROR", "message": "The local stack is about to stop"}
            await JSONResponse(gone, 503, CORS)(scope, receive, send)
            return
        try:
            loaded = await self._started(name)
        except Exception:
            log.exception("Function %s cannot be loaded", name)
            broken = {"code": "BOOT_ERROR", "message": "Function failed to start (please check logs)"}
            await JSONResponse(broken, 503, CORS)(scope, receive, send)
            return
        if loaded is None:
            missing = {"code": "NOT_FOUND", "message": "Requested function was not found"}
            await JSONResponse(missing, 404, CORS)(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task
        self._under_way.add(task)
        try:
            await self._serve(*loaded, rest, scope, receive, send)
        finally:
            self._under_way.discard(task)

    async def _serve(
        self, app: ASGIApp, verify_jwt: bool, rest: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        refusal = self._refusal(Request(scope)) if verify_jwt and scope["method"] != "OPTIONS" else None
        if refusal:
            await JSONResponse(refusal, 401, CORS)(scope, receive, send)
            return
        await app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, send)

    async def close(self) -> None:
        """Take no more requests; let those under way be answered within GRACE_SECONDS, and then each function
        end in its own way.
        """
        self._ending = True
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=GRACE_SECONDS)
        endings = [lifespan.tell("shutdown") for lifespan in self._lifespans.values()]
        for name, outcome in zip(
            self._lifespans, await asyncio.gather(*endings, return_exceptions=True), strict=True
        ):
            if outcome is not None:
                log.error("Function %s did not end well: %s", name, outcome)

    async def _started(self, name: str) -> tuple[ASGIApp, bool] | None:
        """The function, after its startup; as _load()."""
        if name not in self._apps:
            async with self._starting:
                loaded = self._load(name)
                if loaded and name not in self._lifespans:
                    lifespan = Lifespan(loaded[0])
                    await lifespan.tell("startup")
                    self._lifespans[name] = lifespan
                    self._apps[name] = loaded
        return self._apps.get(name)

    def _refusal(self, request: Request) -> dict[str, str] | None:
        """What a hosted project answers when the token is missing or not its own; None when all is well."""
        if not request.headers.get("authorization"):
            return {"code": "UNAUTHORIZED_NO_AUTH_HEADER", "message": "Missing authorization header"}
        try:
            self.tokens.claims(request)
        except (AuthError, RecursionError):
            return {"code": "UNAUTHORIZED_INVALID_JWT_FORMAT", "message": "Invalid JWT"}
        return None

    def _verify_jwt(self, name: str) -> bool:
        """`[functions.NAME] verify_jwt`; true when nothing is said, as hosted."""
        try:
            sections = tomllib.loads(self.config.read_text()).get("functions", {})
        except FileNotFoundError:
            sections = {}
        return sections.get(name, {}).get("verify_jwt", True) is not False

    def _load(self, name: str) -> tuple[ASGIApp, bool] | None:
        """The function's `app`, and whether it is for tokens of this project only."""
        file = self.folder / name / "index.py"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or not file.is_file():
            return None
        if name in self._apps:
            return self._apps[name]
        spec = importlib.util.spec_from_file_location(f"functions_{name.replace('-', '_')}", file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.app, self._verify_jwt(name)
