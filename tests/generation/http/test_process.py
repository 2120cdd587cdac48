"""Processes that end, by themselves or not, and a database that is away."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from scripts.local.providers.control import Control
from tests.support.clock import until
from tests.support.generate import HTTP, GenerateUser
from tests.support.served import Served
from tests.support.stack import Env

# Each point, and whether the provider was asked by then.
POINTS = {
    "begin_generation:before": False,
    "begin_generation:after": False,
    "dispatch_generation:before": False,
    "dispatch_generation:after": False,
    "ask:before": False,
    "ask:after": True,
    "upload:before": True,
    "upload:after": True,
    "finish_generation:before": True,
    "finish_generation:after": True,
    "sign:after": True,
}


@pytest.mark.parametrize("point", POINTS)
def test_kill(
    ann: GenerateUser, serve: Callable[..., Served], served: Served, prompt: str, control: Control, point: str
) -> None:
    """Kill -9 at each step: what was delivered is charged, all else is given back, nothing is asked twice."""
    victim = serve("tests.generation.http.fragile", KILL_AT=point)
    with pytest.raises(httpx.TransportError):
        ann.post(victim, prompt, key="k")
    assert victim.wait_dead() == -9
    asked = len(control.calls(match=prompt))
    assert (asked > 0) == POINTS[point]
    dispatched = [job["dispatched_at"] for job in ann.all_jobs()]
    assert len(dispatched) == (point != "begin_generation:before")
    if point in ("begin_generation:before", "begin_generation:after", "dispatch_generation:before"):
        # No provider was asked: the repeat does the work.
        assert ann.post(served, prompt, key="k").status_code == 200
        assert control.paid(match=prompt) == 1
        ann.expect(10)
        return
    ann.sweep()
    repeat = ann.post(served, prompt, key="k")
    assert len(control.calls(match=prompt)) == asked
    if [job["status"] for job in ann.all_jobs()] == ["succeeded"]:
        assert point in ("finish_generation:after", "sign:after")
        assert repeat.status_code == 200
        assert HTTP.get(repeat.json()["outputs"][0]["url"]).status_code == 200
        ann.expect(10)
    else:
        assert (repeat.status_code, repeat.json()["charged"]) == (504, 0)
        ann.expect(0)
        assert ann.usage() == ["unknown"]


@pytest.mark.parametrize("point", ["note_generation:before", "note_generation:after", "poll:after"])
def test_kill_with_a_task(
    ann: GenerateUser, serve: Callable[..., Served], prompt: str, control: Control, point: str
) -> None:
    victim = serve("tests.generation.http.fragile", KILL_AT=point)
    with suppress(httpx.TransportError):
        ann.post(victim, prompt, key="k", operation="gen_video")
    assert victim.wait_dead() == -9
    next_one = serve()
    if point == "note_generation:before":  # nobody knows the provider's id
        ann.sweep()
        ann.expect(0)
        assert ann.usage() == ["unknown"]
    else:
        until(lambda: [job["status"] for job in ann.all_jobs()] == ["succeeded"])
        ann.expect(50)
    ann.post(next_one, prompt, key="k", operation="gen_video")
    assert control.paid(match=prompt) == 1


def test_kill_with_a_hundred_in_flight(
    caller: Callable[..., GenerateUser], serve: Callable[..., Served], prompt: str, control: Control
) -> None:
    """After the sweep the charges are those for what was delivered, and nothing is held."""
    victim = serve()
    callers = [caller() for _ in range(10)]
    control.fault("openai", "slow", times=None, ms=30_000, match=f"{prompt} slow")

    def call(number: int) -> None:
        speed = "slow" if number % 2 else "fast"
        with suppress(httpx.TransportError):
            callers[number % 10].post(victim, f"{prompt} {speed} {number}", key=str(number))

    with ThreadPoolExecutor(100) as pool:
        calls = [pool.submit(call, number) for number in range(100)]
        until(lambda: len(control.calls("openai", match=f"{prompt} slow")) == 50, 30)
        until(lambda: sum(job["status"] == "succeeded" for one in callers for job in one.all_jobs()) > 10, 30)
        victim.kill()
        for future in calls:
            future.result()
    charged = 0
    for one in callers:
        one.sweep()
        jobs = one.all_jobs()
        delivered = sum(len(job["outputs"]) for job in jobs)
        one.expect(10 * delivered)
        charged += delivered
        storage = one.user.client.storage.from_("generations")
        for job in jobs:
            for output in job["outputs"]:
                assert storage.download(output["path"]).startswith(b"\x89PNG")
    assert 10 < charged <= 50  # the slow ones had no chance
    assert control.paid(match=prompt) >= charged


def test_sigterm_lets_jobs_finish(
    ann: GenerateUser,
    caller: Callable[..., GenerateUser],
    serve: Callable[..., Served],
    prompt: str,
    control: Control,
) -> None:
    """The client that waits gets the answer; the one that is gone is charged for what it can fetch."""
    served = serve()
    gone, video = caller(), caller()
    control.fault("openai", "slow", times=None, ms=1500, match=prompt)
    control.tasks(hold=True)
    assert video.post(served, prompt, operation="gen_video").status_code == 202
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            served.url, json={"operation": "gen_image", "prompt": prompt}, headers=gone.headers(),
            timeout=0.5, trust_env=False,
        )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ann.post, served, prompt)
        until(lambda: len(control.calls("openai", match=prompt)) == 2)
        served.terminate()
        answer = waiting.result()
    assert answer.status_code == 200, answer.text
    assert served.wait_dead() in (0, -15)
    assert "Application shutdown complete" in served.log()
    assert "not finished" not in served.log() and "Traceback" not in served.log()
    ann.expect(10)
    gone.expect(10)
    video.expect(0, held=50)  # left to the next process
    control.tasks(hold=False)
    serve()
    until(lambda: [job["status"] for job in video.all_jobs()] == ["succeeded"])
    video.expect(50)


def test_sigterm_lets_jobs_finish_that_nobody_waits_for(
    ann: GenerateUser, serve: Callable[..., Served], served: Served, prompt: str, control: Control
) -> None:
    """An answer that came before its job was over: 202."""
    brief = serve(GENERATION_WAIT_SECONDS="0.3")
    control.fault("openai", "slow", ms=2000, match=prompt)
    answer = ann.post(brief, prompt, key="k")
    assert (answer.status_code, answer.json()["status"]) == (202, "dispatched")
    brief.terminate()
    assert brief.wait_dead() in (0, -15)
    assert ann.row(answer.json()["job"])["status"] == "succeeded"
    ann.expect(10)
    assert ann.post(served, prompt, key="k").status_code == 200


class Valve:
    """A way to the stack that can be shut: connections are cut, and new ones refused."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self.target = parts.hostname, parts.port
        self.open = True
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                inner, _ = self.server.accept()
            except OSError:
                return
            if not self.open:
                inner.close()
                continue
            outer = socket.create_connection(self.target)
            self.pairs.append((inner, outer))
            for a, b in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def shut(self) -> None:
        self.open = False
        for pair in self.pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def valve(env: Env) -> Iterator[Valve]:
    """A valve before the stack's API."""
    made = Valve(env.api_url)
    yield made
    made.shut()
    made.server.close()


@pytest.mark.parametrize("ends", ["delivered", "refused", "lost", "started"])
def test_the_database_is_away_when_the_provider_answers(
    ann: GenerateUser, serve: Callable[..., Served], valve: Valve, prompt: str, control: Control, ends: str
) -> None:
    served = serve(SUPABASE_URL=valve.url)
    provider, operation = ("runway", "gen_video") if ends == "started" else ("openai", "gen_image")
    control.fault(provider, "slow", ms=500, match=prompt)
    if ends == "refused":
        control.fault("openai", "refusal", match=prompt)
    elif ends == "lost":
        control.fault("openai", "drop", accepted=True, match=prompt)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ann.post, served, prompt, key="k", operation=operation)
        until(lambda: control.calls(match=prompt))
        valve.shut()
        time.sleep(1.2)
        valve.open = True
        answer = waiting.result()
    expected = {"delivered": 200, "refused": 422, "lost": 504, "started": 202}[ends]
    assert answer.status_code == expected, answer.text
    if ends == "lost":
        ann.expect(0, held=10)
        ann.sweep()
    elif ends == "started":
        until(lambda: [job["status"] for job in ann.all_jobs()] == ["succeeded"])
    ann.expect({"delivered": 10, "refused": 0, "lost": 0, "started": 50}[ends])
    assert control.paid(match=prompt) == (ends != "refused")


def test_the_database_is_away_at_first(
    ann: GenerateUser, serve: Callable[..., Served], valve: Valve, prompt: str, control: Control
) -> None:
    served = serve(SUPABASE_URL=valve.url)
    valve.shut()
    answer = ann.post(served, prompt, key="k")
    assert (answer.status_code, answer.json()["charged"]) == (503, 0)
    assert "retry-after" in answer.headers
    valve.open = True
    assert ann.post(served, prompt, key="k").status_code == 200
    ann.expect(10)
    assert control.paid(match=prompt) == 1


def test_a_job_that_expired_while_the_database_was_away(
    ann: GenerateUser, serve: Callable[..., Served], valve: Valve, prompt: str, control: Control
) -> None:
    """Its output is not given away, and the answer is truthful."""
    served = serve(SUPABASE_URL=valve.url)
    control.fault("openai", "slow", ms=800, match=prompt)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ann.post, served, prompt, key="k")
        until(lambda: control.calls(match=prompt))
        valve.shut()
        ann.sweep()
        time.sleep(1)
        valve.open = True
        answer = waiting.result()
    assert (answer.status_code, answer.json()["code"], answer.json()["charged"]) == (504, "deadline", 0)
    ann.expect(0)
    job = answer.json()["job"]
    assert ann.user.client.storage.from_("generations").list(f"{ann.account}/{job}") == []
