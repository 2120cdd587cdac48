"""A load generator for HTTP: many keep-alive connections, each with one request under way, and little else.

A process of its own, so that its CPU time is known and Python's lock is not shared with anything.
Reads one JSON object from stdin, {host, port, seconds, warm_up, requests: [one list of texts a connection]},
and writes one to stdout, {requests, failed, first_failure, seconds, cpu_seconds, p50_ms, p99_ms}.
A request text is the whole HTTP/1.1 request. Each connection goes through its list again and again.
"""

import asyncio
import itertools
import json
import resource
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import uvloop

END_OF_CHUNKS = b"\r\n0\r\n\r\n"


class Counter:
    """What all connections have done since `since`, a time.perf_counter()."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.failed = 0
        self.first_failure = ""
        self.counting = False
        self.stopped = False


class Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last one is complete."""

    def __init__(self, requests: Iterator[bytes], counter: Counter) -> None:
        self._requests, self._counter = requests, counter
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there: begin."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        assert self._transport
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        """Part of an answer, in practice the whole."""
        self._buffer = self._buffer + data if self._buffer else data
        if not self._complete():
            return
        counter = self._counter
        if counter.counting:
            counter.latencies.append(time.perf_counter() - self._sent)
            if not self._buffer.startswith(b"HTTP/1.1 20"):
                counter.failed += 1
                counter.first_failure = counter.first_failure or self._buffer.decode("latin-1")
        self._buffer = b""
        if not counter.stopped:
            self._send()

    def _complete(self) -> bool:
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return False
        if b"hunked" in head:
            return body == b"0\r\n\r\n" or body.endswith(END_OF_CHUNKS)
        _, found, rest = head.lower().partition(b"content-length:")
        return not found or len(body) >= int(rest.split(b"\r\n", 1)[0])

    def connection_lost(self, exc: Exception | None) -> None:
        """The server hung up; before the end of the run that is a failure."""
        if not self._counter.stopped:
            self._counter.failed += 1
            self._counter.first_failure = self._counter.first_failure or f"connection lost: {exc}"


async def load(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the load that the module's docstring describes."""
    loop = asyncio.get_running_loop()
    counter = Counter()
    for texts in spec["requests"]:
        requests = itertools.cycle([text.encode("latin-1") for text in texts])
        await loop.create_connection(partial(Connection, requests, counter), spec["host"], spec["port"])
    await asyncio.sleep(spec["warm_up"])
    counter.counting = True
    began, cpu_before = time.perf_counter(), cpu_seconds()
    await asyncio.sleep(spec["seconds"])
    # On a busy machine the first answer may take longer.
    while not (counter.latencies or counter.failed):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    counter.counting, counter.stopped = False, True
    seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu_before
    # Let the last answers come, so that the next run starts with idle servers.
    await asyncio.sleep(0.2)
    ordered = sorted(counter.latencies) or [0.0]
    return {
        "requests": len(counter.latencies),
        "failed": counter.failed,
        "first_failure": counter.first_failure[:2000],
        "seconds": seconds,
        "cpu_seconds": cpu,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1000,
    }


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run it as a program."""
    json.dump(uvloop.run(load(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
