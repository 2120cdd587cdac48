"""Calls an address by httpx on many connections at once, as an app does: a process of its own.

Reads JSON objects from stdin, one per line: url; body, a JSON object; headers, a list of objects that calls
take in turn; keyed, whether each call gets a new Idempotency-Key; connections; and seconds with warm_up, or
calls. Writes one line for each to stdout, when it is done: {requests, sent, failed, first_failure, seconds,
cpu_seconds, p50_ms, p99_ms}, of the calls that were answered within the time, but `sent` also counts those
before and after.
"""

import asyncio
import itertools
import json
import resource
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvloop


@dataclass
class Counter:
    """What all connections have done while it counts."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    first_failure: str = ""
    counting: bool = False
    stopped: bool = False
    left: int | None = None
    sent: int = 0


async def connection(client: httpx.AsyncClient, spec: dict[str, Any], given: Any, counter: Counter) -> None:
    """One call after the other, until the counter says stop."""
    while not counter.stopped and counter.left != 0:
        if counter.left is not None:
            counter.left -= 1
        headers = dict(next(given))
        if spec["keyed"]:
            headers["Idempotency-Key"] = str(uuid.uuid4())
        counter.sent += 1
        began, failure = time.perf_counter(), ""
        try:
            answer = await client.post(spec["url"], json=spec["body"], headers=headers)
            if answer.status_code != 200:
                failure = f"{answer.status_code} {answer.text}"
        except httpx.HTTPError as error:
            failure = f"{type(error).__name__} {error}"
        if counter.counting:
            counter.latencies.append(time.perf_counter() - began)
            counter.failed += bool(failure)
            counter.first_failure = counter.first_failure or failure


async def load(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the load that the module's docstring describes."""
    counter = Counter(left=spec.get("calls"))
    given = itertools.cycle(spec["headers"])
    limits = httpx.Limits(max_connections=spec["connections"])
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client:
        tasks = [
            asyncio.create_task(connection(client, spec, given, counter)) for _ in range(spec["connections"])
        ]
        if counter.left is None:
            await asyncio.sleep(spec["warm_up"])
        counter.counting = True
        began, cpu_before = time.perf_counter(), cpu_seconds()
        if counter.left is None:
            await asyncio.sleep(spec["seconds"])
            # On a busy machine the first answer may take longer.
            while not counter.latencies:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            counter.counting, counter.stopped = False, True
            seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu_before
            await asyncio.gather(*tasks)
        else:
            await asyncio.gather(*tasks)
            seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu_before
    ordered = sorted(counter.latencies) or [0.0]
    return {
        "requests": len(counter.latencies),
        "sent": counter.sent,
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
    for line in sys.stdin:
        print(json.dumps(uvloop.run(load(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
