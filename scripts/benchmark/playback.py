"""Answers what PostgREST and Storage answered to a recorded job, each call after the time that it took then.

With it the rest of the stack needs next to none of the machine, as if it had machines of its own: what is
left is what one process of the function can do.

A program: reads a recording from stdin, a JSON object {account, job, calls: {path: {body, seconds}}}, paths
with the ids of account and job as `*`, and serves it on --port. Every job gets an id of its own.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import httptools
import uvloop

from scripts.local.stack import ports

from .counter import Seen

UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BEGIN = b"/rpc/begin_generation"


def pattern(path: bytes) -> str:
    """A path without the ids in it."""
    return UUID.sub(b"*", path).decode()


def recording(seen: Sequence[Seen]) -> dict[str, Any]:
    """Of jobs that were run one after the other: the answers to the last, and each call's median time."""
    times: dict[str, list[float]] = {}
    answers: dict[str, str] = {}
    for call in seen:
        path = pattern(call.path.encode())
        times.setdefault(path, []).append(call.seconds)
        answers[path] = call.answer.decode()
    begun = json.loads(answers[BEGIN.decode()])
    return {
        "account": begun["account_id"],
        "job": begun["id"],
        "calls": {
            path: {"body": body, "seconds": statistics.median(times[path])} for path, body in answers.items()
        },
    }


@dataclass(frozen=True)
class Recording:
    """What to answer. `calls` are (body, seconds) by path."""

    account: bytes
    job: bytes
    calls: Mapping[str, tuple[bytes, float]]

    def answer(self, path: bytes, body: bytes) -> tuple[bytes, float]:
        """The answer to a call of any job, and how long it takes."""
        if path == BEGIN:
            job = str(uuid.uuid4()).encode()
        else:
            ids = (found for text in (path, body) for found in UUID.findall(text))
            job = next((found for found in ids if found != self.account), self.job)
        recorded, seconds = self.calls[pattern(path)]
        return recorded.replace(self.job, job), seconds


class Playback:
    """The program, run as a process. `url` stands for the project's and for PostgREST's."""

    def __init__(self, recorded: Mapping[str, object], root: Path) -> None:
        port = ports.ephemeral()
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmark.playback", "--port", str(port)],
            cwd=root, stdin=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin
        with self._process.stdin as stdin:
            stdin.write(json.dumps(recorded).encode())
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """See httptools."""
        self._path, self._body = b"", bytearray()

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._path += url

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._body += body

    def on_message_complete(self) -> None:
        """See httptools."""
        body, seconds = self._recording.answer(self._path, bytes(self._body))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        asyncio.get_running_loop().call_later(seconds, self._transport.write, head + body)


async def serve(recording: Recording, port: int) -> None:
    """Until the process is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(recording), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Run it as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    given = json.load(sys.stdin)
    calls = {path: (call["body"].encode(), call["seconds"]) for path, call in given["calls"].items()}
    uvloop.run(serve(Recording(given["account"].encode(), given["job"].encode(), calls), port))


if __name__ == "__main__":
    main()
