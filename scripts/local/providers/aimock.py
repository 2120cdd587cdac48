"""aimock, which answers what this package does not: text, vision, and the rest of OpenAI and Gemini."""

import asyncio
import contextlib
import logging
from pathlib import Path

import aiohttp

from .provider import Reply

log = logging.getLogger("aimock")
SCRIPT = Path(__file__).with_name("aimock.mjs")
SECONDS = 20


class AimockError(Exception):
    """It does not run. The message is a sentence that says what to do."""


class Aimock:
    """The process, started in the background, and a client of it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._base: asyncio.Future[str] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._starting: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to start it; who asks waits until it is up."""
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._base = asyncio.get_running_loop().create_future()
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        assert self._base is not None
        try:
            # It ends when this pipe closes, however this process ends.
            self._process = await asyncio.create_subprocess_exec(
                "node", str(SCRIPT), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            assert self._process.stdout
            port = (await self._process.stdout.readline()).decode().strip()
        except OSError:
            port = ""
        if port:
            self._base.set_result(f"http://127.0.0.1:{port}")
        else:
            log.error("aimock does not run.")
            self._base.set_result("")

    async def close(self) -> None:
        """End it."""
        if self._starting:
            self._starting.cancel()
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()
        if self._session:
            await self._session.close()

    async def ask(
        self, method: str, path: str, body: bytes | None, content_type: str = "application/json"
    ) -> Reply:
        """Its answer. Raises AimockError."""
        assert self._base is not None and self._session is not None
        base = await asyncio.wait_for(asyncio.shield(self._base), SECONDS)
        if not base:
            raise AimockError(
                "aimock, which answers this, does not run: it needs Node.js 18.19 or newer and "
                "node_modules (scripts/setup); the log says more."
            )
        try:
            async with self._session.request(
                method, base + path, data=body or None, headers={"Content-Type": content_type}
            ) as answer:
                kind = answer.headers.get("Content-Type", "application/json")
                return Reply(await answer.read(), answer.status, kind)
        except aiohttp.ClientError as error:
            raise AimockError(
                f"aimock, which answers this, is away ({error}); start the providers anew."
            ) from error
