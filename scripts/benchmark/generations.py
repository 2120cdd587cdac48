"""The function generate against calls straight to the provider: latency, throughput, round trips, memory."""

import contextlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx

from scripts.local.providers.control import Control
from scripts.local.stack import ports, providers

from .counter import Counter
from .measures import HTTP_CONNECTIONS, users_of_main, users_tokens, verify
from .playback import Playback, recording
from .runner import Measure, Options, Result, progress
from .server import MAIN, Sample, Server

HTTP = httpx.Client(timeout=5, trust_env=False)
OPERATION, MODEL, PROMPT = "bench_image", "gpt-image-2.6-flare", "a cat on a roof"
PROVIDER_MS = 200


@dataclass(frozen=True)
class Timed(Sample):
    """A run's throughput with its latencies, in milliseconds."""

    p50_ms: float = 0
    p99_ms: float = 0


class Processes:
    """The stand-ins for the providers, and one process that serves generate."""

    def __init__(self, server: Server, **urls: str) -> None:
        """`urls`: POSTGREST_URL and SUPABASE_URL, where the function shall not call the stack itself."""
        self.server = server
        self._running: list[subprocess.Popen[bytes]] = []
        try:
            self._start(urls)
        except BaseException:
            self.stop()
            raise

    def _start(self, urls: Mapping[str, str]) -> None:
        port, self.base = ports.ephemeral(), f"http://127.0.0.1:{ports.ephemeral()}"
        keys = providers.environment(secrets.token_hex(16), self.base)
        self.provider_url = f"{keys['OPENAI_BASE_URL']}/images/generations"
        self.provider_headers = {"Authorization": f"Bearer {keys['OPENAI_API_KEY']}"}
        stand_in = self._run(
            [sys.executable, "-m", "scripts.local.providers", "--port", self.base.rpartition(":")[2]], keys
        )
        environment = {
            **self.server.stack.gateway_settings().function_environment(),
            **keys,
            "PYTHONPATH": str(self.server.stack.root / "functions"),
            "POSTGREST_URL": self.server.postgrest_url,
            **urls,
        }
        # PostgREST itself takes tokens only; keys are the gateway's.
        environment["SUPABASE_SECRET_KEYS"] = json.dumps(
            {"default": environment["SUPABASE_SERVICE_ROLE_KEY"]}
        )
        self.url = f"http://127.0.0.1:{port}/"
        self.function = self._run(
            [sys.executable, "-m", "uvicorn", "--port", str(port), "--no-access-log",
             "--log-level", "warning", "scripts.benchmark.generate:app"],
            environment,
        )  # fmt: skip
        self._wait(f"{self.base}/health", stand_in)
        self._wait(self.url, self.function)
        stack = self.server.stack
        self.pids = {
            "function": self.function.pid,
            "Storage": stack.pid("gateway"),
            "PostgREST": stack.pid("postgrest"),
            "stand-in": stand_in.pid,
        }

    def _run(self, command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            command, cwd=self.server.stack.root, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
        )
        self._running.append(process)
        return process

    @staticmethod
    def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(httpx.TransportError):
                HTTP.get(url)
                return
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"{url} does not answer.")
            time.sleep(0.05)

    def slow_down(self, milliseconds: int) -> None:
        """Let the provider take so long from now on."""
        with Control(self.base) as control:
            control.reset()
            if milliseconds:
                control.fault("openai", "slow", times=None, ms=milliseconds)

    def stop(self) -> None:
        """End them."""
        for process in reversed(self._running):
            process.terminate()
        for process in reversed(self._running):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def cpu_seconds(self) -> dict[str, float] | None:
        """CPU time of each process so far; None where /proc does not tell."""
        try:
            return {name: _cpu_seconds(pid) for name, pid in self.pids.items() if pid is not None}
        except (OSError, ValueError, IndexError):
            return None

    def memory(self) -> float:
        """Resident memory of the function's process, in MiB."""
        said = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.function.pid)], capture_output=True, text=True, check=True
        )  # fmt: skip
        return int(said.stdout) / 1024


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sell_images(server: Server) -> None:
    """An operation of the benchmark's own, and no limit of calls that would be reached."""
    with server.connect() as admin:
        admin.execute(
            "insert into public.pricing_tiers (operation, provider, model, unit, credits_per_unit) "
            "values (%s, 'openai', %s, 'image', 10) on conflict do nothing",
            (OPERATION, MODEL),
        )
        admin.execute(
            "update credits.billing_settings set "
            "max_generations_per_minute = 2147483647, max_generations_in_flight = 2147483647"
        )


class Generations(Measure):
    """What the measures of generate have in common."""

    connections: ClassVar[int] = HTTP_CONNECTIONS
    provider_ms: ClassVar[int] = 0
    processes: Processes | None = None
    client: "subprocess.Popen[str] | None" = None

    def __init__(self, server: Server, options: Options) -> None:
        super().__init__(server, options)
        self.resources = contextlib.ExitStack()  # ended after the processes that use them

    def prepare(self) -> None:
        """See Measure."""
        accounts = users_of_main(self.server, self.options)
        sell_images(self.server)
        _, tokens = users_tokens(self.server, min(accounts, 3200))
        self.users = [{"Authorization": f"Bearer {token}"} for token in tokens]
        self.processes = self._processes()
        # Twice: what is planned while the tables are empty reads them whole, until they are analyzed.
        for _ in range(2):
            self.server.settle_down(MAIN)
            self.ours(calls=self.options.size(400, 8))
        self.processes.slow_down(self.provider_ms)

    def _processes(self) -> Processes:
        return Processes(self.server)

    def ours(self, **how_long: float) -> dict[str, Any]:
        """Have images made by the function, for some seconds or so many calls."""
        assert self.processes
        body = {"operation": OPERATION, "prompt": PROMPT, "n": 1}
        return self._load(self.processes.url, body, self.users, keyed=True, **how_long)

    def direct(self, **how_long: float) -> dict[str, Any]:
        """The same straight at the provider, without a database."""
        assert self.processes
        body = {"model": MODEL, "prompt": PROMPT, "n": 1}
        headers = [self.processes.provider_headers]
        return self._load(self.processes.provider_url, body, headers, keyed=False, **how_long)

    def _load(self, url: str, body: object, headers: object, **options: object) -> dict[str, Any]:
        spec = {"url": url, "body": body, "headers": headers, "connections": self.connections, **options}
        if self.client is None:
            self.client = subprocess.Popen(
                [sys.executable, "-m", "scripts.benchmark.httpx_load"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self.server.stack.root,
            )  # fmt: skip
        assert self.client.stdin and self.client.stdout
        self.client.stdin.write(json.dumps(spec) + "\n")
        self.client.stdin.flush()
        line = self.client.stdout.readline()
        if not line:
            raise RuntimeError("The load generator failed; its message is above.")
        answer: dict[str, Any] = json.loads(line)
        if answer["failed"] or not answer["requests"]:
            raise RuntimeError(
                f"{answer['failed']} of {answer['requests']} calls of {url} failed: {answer['first_failure']}"
            )
        return answer

    def finish(self) -> None:
        """See Measure."""
        with self.server.connect() as admin:
            row = admin.execute(
                "select count(*), count(*) filter (where status = 'succeeded'), "
                "(select count(*) from public.credit_holds as h where h.status = 'held') "
                "from public.generation_jobs"
            ).fetchone()
        assert row
        if row[0] != row[1] or row[2]:
            raise RuntimeError(f"{row[1]} of {row[0]} jobs succeeded, and {row[2]} holds are left.")
        verify(self.server, MAIN)

    def close(self) -> None:
        """See Measure."""
        if self.client:
            self.client.kill()
            self.client.communicate()
        if self.processes:
            self.processes.stop()
        self.resources.close()


class Compared(Generations):
    """Rounds of jobs against rounds of direct calls, by the same client program."""

    peer = "the provider's stand-in called directly with httpx"
    unit = "jobs/s"

    def prepare(self) -> None:
        """See Measure."""
        self.cpu: list[dict[str, float]] = []
        super().prepare()
        self.direct(calls=self.connections * 2)

    def run_ours(self) -> Sample:
        """See Measure."""
        assert self.processes
        with self.server.cost() as cost:
            before = self.processes.cpu_seconds()
            done = self.ours(**self._how_long())
            after = self.processes.cpu_seconds()
        # The processes also worked for the requests of the warm-up, and for those that came too late.
        jobs = done["sent"]
        if before and after and cost.cpu_seconds is not None:
            spent = {name: after[name] - before[name] for name in after}
            spent["Postgres"] = cost.cpu_seconds
            self.cpu.append({name: seconds / jobs for name, seconds in spent.items()})
            self.cpu[-1]["client"] = done["cpu_seconds"] / done["requests"]
        cpu_us = cost.cpu_seconds * 1e6 / jobs if cost.cpu_seconds is not None else None
        return self._sample(done, cpu_us, cost.wal_bytes / jobs)

    def run_peer(self) -> Sample:
        """See Measure."""
        return self._sample(self.direct(**self._how_long()))

    def _how_long(self) -> dict[str, float]:
        seconds = self.options.seconds
        return {"seconds": seconds, "warm_up": min(0.5, seconds / 5)}

    @staticmethod
    def _sample(done: dict[str, Any], cpu_us: float | None = None, wal: float | None = None) -> Timed:
        return Timed(done["requests"] / done["seconds"], cpu_us, wal, done["p50_ms"], done["p99_ms"])

    def rows(self, result: Result) -> list[Result]:
        """See Measure: a row for each percentile, too."""
        if self.cpu:
            each = {name: statistics.median(cpu[name] for cpu in self.cpu) * 1000 for name in self.cpu[0]}
            listed = ", ".join(f"{name} {milliseconds:.1f}" for name, milliseconds in each.items())
            result.notes.append(
                f"CPU milliseconds of a job: {listed}; together {sum(each.values()):.1f}, so this machine's "
                f"{os.cpu_count()} cores bear {(os.cpu_count() or 1) * 1000 / sum(each.values()):.0f} jobs/s."
            )
        return [result, *(self._latency(result, percentile) for percentile in ("p50", "p99"))]

    def _latency(self, result: Result, percentile: str) -> Result:
        ours, peer = (
            [Sample(getattr(sample, f"{percentile}_ms")) for sample in side]
            for side in (result.ours, result.peer)
        )
        added = statistics.median(a.value - b.value for a, b in zip(ours, peer, strict=True))
        return Result(
            f"{self.name}_{percentile}", f"{self.title}: latency, {percentile}", self.peer, "ms", None, False,
            ours, peer, [f"generate adds {added:.1f} ms."],
        )  # fmt: skip


class OneConnection(Compared):
    """One caller, and a provider that answers as fast as it can: the harshest ratio."""

    name = "generate_1"
    title = "generate, 1 connection, provider at once"
    connections = 1


class ManyConnections(Compared):
    """As many callers as the other measures have, and a provider that takes its time."""

    name = "generate_32"
    title = f"generate, 32 connections, provider of {PROVIDER_MS} ms"
    provider_ms = PROVIDER_MS


class OneProcess(ManyConnections):
    """The same with the processor time of Postgres, PostgREST and Storage taken out, but not their answers'
    time: they are played back. On a small machine they would take what the function's process needs.
    """

    name = "generate_process"
    title = f"{ManyConnections.title}: one process of the function, the rest of the stack played back"
    goal = 0.85

    def prepare(self) -> None:
        """See Measure."""
        super().prepare()
        recorded = self._record()
        times = {
            path.replace("/*", "").rpartition("/")[2]: call["seconds"] * 1000
            for path, call in recorded["calls"].items()
        }
        listed = ", ".join(f"{name} {milliseconds:.1f}" for name, milliseconds in times.items())
        self.notes.append(f"Milliseconds that the stack took for each call, one job at a time: {listed}.")
        self.playback = self.resources.enter_context(Playback(recorded, self.server.stack.root))
        url = self.playback.url
        self.processes = Processes(self.server, POSTGREST_URL=url, SUPABASE_URL=url)
        self.processes.pids = {
            "playback": self.playback.pid,
            **{name: self.processes.pids[name] for name in ("function", "stand-in")},
        }
        self.ours(calls=self.connections * 2)
        self.processes.slow_down(self.provider_ms)

    def _processes(self) -> Processes:
        gateway = self.server.stack.gateway_settings().function_environment()["SUPABASE_URL"]
        targets = self.server.postgrest_url, gateway
        self.counters = [self.resources.enter_context(Counter(target)) for target in targets]
        postgrest, storage = (counter.url for counter in self.counters)
        return Processes(self.server, POSTGREST_URL=postgrest, SUPABASE_URL=storage)

    def _record(self) -> dict[str, Any]:
        """What the stack answers to one job after the other, and how soon."""
        assert self.processes
        self.processes.slow_down(0)
        for counter in self.counters:
            counter.seen.clear()
        self.ours(calls=self.options.size(20, 4), connections=1)
        self.processes.stop()
        self.processes = None
        return recording([call for counter in self.counters for call in counter.seen])


class RoundTrips(Generations):
    """How often the function asks the database between a request and its answer, counted in between."""

    name = "generate_trips"
    title = "database round trips of generate"
    peer = "one job"
    unit = "calls"
    more_is_better = False
    goal = 3.0
    once = True
    connections = 1

    def _processes(self) -> Processes:
        self.counter = self.resources.enter_context(Counter(self.server.postgrest_url))
        # A look for tasks to take over, which is on nobody's path, would count, too: they come seldom enough.
        return Processes(self.server, POSTGREST_URL=self.counter.url, GENERATION_LEASE_SECONDS="300")

    def run_ours(self) -> Sample:
        """See Measure."""
        self.counter.seen.clear()
        jobs = self.options.size(20, 4)
        self.ours(calls=jobs)
        time.sleep(0.3)  # what comes after the answer would count, too
        names = sorted({call.path.rpartition("/")[2] for call in self.counter.seen})
        self.notes.append(f"Each job: {', '.join(names)}.")
        return Sample(len(self.counter.seen) / jobs)

    def run_peer(self) -> Sample:
        """See Measure."""
        return Sample(1.0)


class Memory(Generations):
    """Whether the function's process grows with the jobs it has done."""

    name = "generate_memory"
    title = "memory of generate's process after 10,000 jobs"
    peer = "after the first 1,000"
    unit = "MiB"
    more_is_better = False
    goal = 1.1
    once = True

    def prepare(self) -> None:
        """See Measure."""
        super().prepare()
        assert self.processes
        tenth = self.options.size(1000)
        self.grown = [self.processes.memory()]
        for number in range(10):
            self.ours(calls=tenth)
            self.grown.append(self.processes.memory())
            progress(f"{self.name}: {(number + 1) * tenth:,} jobs, {self.grown[-1]:.1f} MiB")
        self.notes.append(
            f"Resident: {self.grown[0]:.1f} MiB at the start, {self.grown[1]:.1f} after {tenth:,} jobs, "
            f"{self.grown[5]:.1f} after {5 * tenth:,}, {self.grown[10]:.1f} after {10 * tenth:,}."
        )

    def run_ours(self) -> Sample:
        """See Measure."""
        return Sample(self.grown[10])

    def run_peer(self) -> Sample:
        """See Measure."""
        return Sample(self.grown[1])


MEASURES: tuple[type[Measure], ...] = (OneConnection, ManyConnections, OneProcess, RoundTrips, Memory)
