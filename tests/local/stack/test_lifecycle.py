"""Starting, stopping, breaking and repairing a stack."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from scripts.local.stack import Stack, ports
from scripts.local.stack.processes import start_time
from scripts.local.stack.stack import PARTS
from tests.support.clock import until
from tests.support.projects import Checkout


def test_status_says_that_nothing_runs(checkout: Checkout) -> None:
    answer = checkout.run("status", check=False)
    assert answer.returncode == 1
    assert "is not running" in answer.stderr
    assert "scripts/stack start" in answer.stderr


def spent(pid: int) -> float:
    """Seconds of processor time of a process and of those that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def test_a_start_takes_seconds_and_stop_leaves_no_process(checkout: Checkout) -> None:
    """Of processor time, as the machine may be busy: three as a rule."""
    earlier = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    checkout.start()
    took = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - earlier
    assert took + sum(map(spent, checkout.processes())) < 10
    assert len(checkout.processes()) >= len(PARTS)

    before = checkout.processes()
    checkout.run("stop")
    assert [pid for pid in before if start_time(pid) is not None] == []
    assert checkout.processes() == set()
    assert "was not running" in checkout.run("stop").stderr


def test_state_is_private(running: Checkout) -> None:
    state = running.stack.paths.state
    assert state.stat().st_mode & 0o777 == 0o700
    for name in ("secrets.json", "stack.json"):
        assert (state / name).stat().st_mode & 0o777 == 0o600


def test_a_second_start_starts_nothing_and_says_so(running: Checkout) -> None:
    before = running.processes()
    answer = running.start()
    assert answer.stderr.count("\n") == 1 and "already running" in answer.stderr
    assert {running.pid(part) for part in PARTS} <= before


def test_status_formats(running: Checkout) -> None:
    values = json.loads(running.run("status", "-o", "json").stdout)
    names = {
        "API_URL", "DB_URL", "ANON_KEY", "SERVICE_ROLE_KEY", "PUBLISHABLE_KEY", "SECRET_KEY", "JWT_SECRET",
        "FUNCTIONS_URL", "STRIPE_API_BASE", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET",
    }  # fmt: skip
    assert set(values) == names
    lines = running.run("status", "-o", "env").stdout.splitlines()
    assert lines == [f'{name}="{value}"' for name, value in values.items()]
    assert values["API_URL"] in running.run("status").stdout


def test_logs(running: Checkout) -> None:
    assert "database system is ready" in running.run("logs", "postgres").stdout
    assert "development only" in running.run("logs", "gateway").stdout


def test_durability_is_as_postgres_ships_it(running: Checkout) -> None:
    with running.connect() as db:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            row = db.execute(
                "select setting, boot_val from pg_settings where name = %s", [setting]
            ).fetchone()
            assert row == ("on", "on")


TIDY = """
import asyncio, contextlib, os, pathlib
import httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

def note(text):
    with pathlib.Path(__file__).with_name("notes").open("a") as file:
        print(text, file=file)

@contextlib.asynccontextmanager
async def lifespan(app):
    note("began")
    yield
    await asyncio.sleep(0.5)
    async with httpx.AsyncClient(trust_env=False) as client:
        headers = {"apikey": os.environ["SUPABASE_ANON_KEY"]}
        answer = await client.get(os.environ["SUPABASE_URL"] + "/rest/v1/", headers=headers)
    note(f"ended, {answer.status_code}")

async def work(request):
    note("asked")
    await asyncio.sleep(3)
    note("answered")
    return PlainTextResponse("done")

app = Starlette(routes=[Route("/", work)], lifespan=lifespan)
"""
UNAWARE = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200 if scope["method"] else 500})
    await send({"type": "http.response.body", "body": b""})
"""


def test_stop_lets_functions_end_in_their_own_way(running: Checkout) -> None:
    """What is under way is answered, and the last calls of a function still reach the stack."""
    running.start()
    status = running.status()
    folder = running.root / "functions"
    for name, text in (("tidy", TIDY), ("unaware", UNAWARE), ("failing", "app = 1/0")):
        (folder / name).mkdir(parents=True)
        (folder / name / "index.py").write_text(text)
    notes = folder / "tidy" / "notes"
    allowed = {"Authorization": f"Bearer {status.anon_key}"}

    def get(name: str) -> httpx.Response:
        return httpx.get(f"{status.functions_url}/{name}", headers=allowed, timeout=20)

    assert (get("unaware").status_code, get("failing").status_code) == (200, 503)
    with ThreadPoolExecutor(2) as pool:
        under_way = pool.submit(get, "tidy")
        until(lambda: notes.exists() and "asked" in notes.read_text())
        stopping = pool.submit(running.run, "stop")
        late = until(lambda: (answer := get("unaware")).status_code != 200 and answer, every=0)
        assert (late.status_code, late.json()["message"]) == (503, "The local stack is about to stop")
        assert under_way.result().text == "done"
        assert "is stopped" in stopping.result().stderr
    assert notes.read_text().splitlines() == ["began", "asked", "answered", "ended, 200"]
    assert "Traceback" not in running.run("logs", "gateway", "-n", "8").stdout
    running.start()


def _remember(checkout: Checkout) -> None:
    with checkout.connect() as db:
        db.execute("create table if not exists kept (id int primary key)")
        db.execute("insert into kept select coalesce(max(id), 0) + 1 from kept")
        db.execute("grant select on kept to anon")


def _remembered(checkout: Checkout) -> int:
    with checkout.connect() as db:
        row = db.execute("select count(*) from kept").fetchone()
    assert row
    return int(row[0])


def _backend(checkout: Checkout) -> int:
    with checkout.connect() as db:
        row = db.execute(
            "select pid from pg_stat_activity where usename = 'authenticator' limit 1"
        ).fetchone()
    assert row
    return int(row[0])


KILLS: dict[str, Callable[[Checkout], list[int]]] = {
    "postmaster": lambda checkout: [checkout.pid("postgres")],
    "backend": lambda checkout: [_backend(checkout)],
    "postgrest": lambda checkout: [checkout.pid("postgrest")],
    "gateway": lambda checkout: [checkout.pid("gateway")],
    "stripe": lambda checkout: [checkout.pid("stripe")],
    "all": lambda checkout: sorted(checkout.processes()),
}


@pytest.mark.parametrize("victim", KILLS)
def test_start_repairs_what_kill_9_broke(running: Checkout, victim: str) -> None:
    running.start()
    _remember(running)
    expected = _remembered(running)

    for pid in KILLS[victim](running):
        os.kill(pid, signal.SIGKILL)
    if victim not in ("backend", "all"):
        time.sleep(0.2)
        damaged = running.run("status", check=False)
        assert damaged.returncode == 1
        assert "scripts/stack start` repairs it" in damaged.stderr
    running.start()

    assert _remembered(running) == expected
    # A killed backend: Postgres restarts by itself, and PostgREST connects again.
    until(lambda: running.rest("kept?select=id").status_code == 200, 20, 0.2)
    assert len(running.rest("kept?select=id").json()) == expected


def test_start_survives_a_pid_file_that_names_another_process(running: Checkout) -> None:
    """After a crash the number in postmaster.pid may have been given to some other program."""
    running.start()
    _remember(running)
    expected = _remembered(running)
    pid_file = running.stack.paths.data / "postmaster.pid"
    os.kill(running.pid("postgres"), signal.SIGKILL)
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    stack_pid_file = running.stack.paths.file("postgres.pid")
    stack_pid_file.write_text(json.dumps({"pid": os.getpid(), "started": "another time"}))
    running.start()
    assert _remembered(running) == expected


def test_reset_forgets_the_data_and_keeps_the_keys(running: Checkout) -> None:
    running.start()
    _remember(running)
    before = running.status()
    storage, key = f"{before.api_url}/storage/v1", {"apikey": before.secret_key}
    httpx.post(f"{storage}/bucket", json={"name": "kept"}, headers=key).raise_for_status()
    httpx.post(f"{storage}/object/kept/a.txt", content=b"a", headers=key).raise_for_status()
    folder = running.stack.gateway_settings().storage_folder / "objects"
    assert len(list(folder.iterdir())) == 1
    running.run("reset")
    assert running.status().env() == before.env()
    assert list(folder.iterdir()) == []
    assert httpx.get(f"{storage}/bucket", headers=key).json() == []
    with running.connect() as db, pytest.raises(psycopg.errors.UndefinedTable):
        db.execute("select * from kept")


@pytest.mark.parametrize(
    ("after", "number"),
    [
        (0.1, signal.SIGINT), (0.5, signal.SIGTERM), (1.0, signal.SIGINT),
        (1.5, signal.SIGTERM), (2.0, signal.SIGINT), (2.5, signal.SIGTERM),
    ],
)  # fmt: skip
def test_interrupted_start_leaves_no_process(
    checkout: Checkout, after: float, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [str(checkout.root / "scripts" / "stack"), "start", "--port", str(checkout.port),
         "--name", checkout.name],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, text=True,
    )  # fmt: skip
    time.sleep(after)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal sends Ctrl-C to the whole group
    else:
        process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    status = process.returncode
    if status == 0:
        checkout.run("stop")  # it had come up in time
    elif status == 1:
        # Python itself was about to start, which then knows no better.
        assert number == signal.SIGINT and "KeyboardInterrupt" in said, said
    else:
        assert status in (128 + number, -number)
    assert checkout.processes() == set()
    # Whatever was half made does not stand in the way.
    checkout.start()
    assert checkout.rest("").status_code == 200


def test_two_stacks_side_by_side(running: Checkout) -> None:
    other = Checkout(running.root, ports.free_pair(), "other")
    try:
        other.start()
        assert running.status().api_url != other.status().api_url
        # Neither takes the other's keys.
        swapped = other.status().env() | {"API_URL": running.status().api_url}
        answer = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{swapped['API_URL']}/rest/v1/",
             "-H", f"apikey: {swapped['ANON_KEY']}"], capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert answer.stdout == "401"
    finally:
        other.stack.stop(delete=True)
    assert running.rest("").status_code == 200


@pytest.mark.parametrize("offset", [0, 1])
def test_a_taken_port_is_one_clear_sentence(checkout: Checkout, offset: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", checkout.port + offset))
        other.listen()
        answer = checkout.run("start", "--port", str(checkout.port), check=False)
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert str(checkout.port + offset) in line
    assert "--port" in line
    assert checkout.processes() == set()


def test_a_chosen_port_does_not_change_by_itself(checkout: Checkout) -> None:
    checkout.start()
    checkout.run("stop")
    with socket.socket() as other:
        other.bind(("127.0.0.1", checkout.port))
        other.listen()
        answer = checkout.run("start", check=False)
    assert answer.returncode == 1
    assert f"Port {checkout.port}, which the API needs, is taken" in answer.stderr
    # So does the port of a stack from before it was noted who chose it.
    file = checkout.stack.paths.file("stack.json")
    state = json.loads(file.read_text())
    del state["port_chosen"]
    file.write_text(json.dumps(state))
    answer = checkout.run("start")
    assert checkout.status().api_url == f"http://127.0.0.1:{checkout.port}"
    assert "Its port is" not in answer.stdout


@pytest.mark.parametrize("offset", [0, 1])
def test_taken_usual_ports_are_passed_over_aloud(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    usual = ports.free_pair()
    monkeypatch.setattr("scripts.local.stack.stack.DEFAULT_PORT", usual)
    said: list[str] = []
    stack = Stack(checkout.root, checkout.name, say=said.append)
    with socket.socket() as other:
        other.bind(("127.0.0.1", usual + offset))
        other.listen()
        stack.start()
    moved = stack.status().moved_to
    assert moved and moved >= usual + 2
    assert str(usual) in said[0] and str(moved) in said[0] and "--port" in said[0]
    told = checkout.run("status").stdout
    assert f"Its port is {moved}" in told and f"http://127.0.0.1:{moved}\n" in told
    assert httpx.get(f"{stack.status().api_url}/health").is_success
    # It stays there, whatever becomes free: apps know the address by now.
    stack.stop()
    said.clear()
    stack.start()
    assert stack.status().moved_to == moved
    assert not any("in use" in line for line in said)


def test_stacks_of_a_checkout_take_different_ports(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that start at the same moment, and beside one that is stopped."""
    monkeypatch.setattr("scripts.local.stack.stack.DEFAULT_PORT", ports.free_pair())
    stacks = [Stack(checkout.root, f"s{n}") for n in range(6)]
    for stack in stacks:
        stack.paths.make()
    try:
        with ThreadPoolExecutor(len(stacks)) as pool:
            chosen = list(pool.map(lambda stack: stack._choose(None, False).port, stacks))
    finally:
        for stack in stacks:
            stack.paths.remove()
    taken = [port for first in chosen for port in (first, first + 1)]
    assert len(set(taken)) == 12, chosen


def test_bad_arguments_are_one_clear_sentence(checkout: Checkout) -> None:
    for arguments in (["status", "--name", "../up"], ["start", "--port", "80"], ["start", "--port", "65535"]):
        answer = subprocess.run(
            [str(checkout.root / "scripts" / "stack"), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 1
        assert len(answer.stderr.strip().splitlines()) == 1


def test_data_of_a_deleted_checkout_is_collected(checkout: Checkout) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root keeps data outside the checkout")
    gone = Checkout(checkout.root.with_name("gone"), ports.free_pair())
    shutil.copytree(checkout.root, gone.root, symlinks=True)
    gone.start()
    data, before = gone.stack.paths.cluster_home, gone.processes()
    shutil.rmtree(gone.root)
    assert data.exists()
    checkout.start()
    assert not data.exists()
    for pid in before:  # PostgREST and the gateway are not ours to find any more; end what this test began
        if start_time(pid) is not None:
            os.kill(pid, signal.SIGKILL)


def test_concurrent_starts_make_one_stack(checkout: Checkout) -> None:
    command = [
        str(checkout.root / "scripts" / "stack"),
        "start",
        "--port",
        str(checkout.port),
        "--name",
        checkout.name,
    ]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(timeout=60) for process in both] == [0, 0, 0]
    assert checkout.rest("").status_code == 200


def test_ticker_runs_maintenance_and_survives(checkout: Checkout) -> None:
    checkout.start()
    with checkout.connect() as db:
        db.execute("create schema credits")
        db.execute("create table credits.ticks (at timestamptz default clock_timestamp())")
        db.execute("create sequence credits.calls")
        # Every third call fails; the first two of each three ask to be called again at once.
        db.execute(
            """
            create procedure credits.maintain(
                settle_after interval default '0', inout more boolean default null
            )
            language plpgsql as $$
            declare n bigint := nextval('credits.calls');
            begin
                if n % 3 = 0 then raise exception 'no maintenance today'; end if;
                insert into credits.ticks default values;
                more := settle_after > '0';
            end $$
            """
        )

    def ticks() -> int:
        with checkout.connect() as db:
            row = db.execute("select count(*) from credits.ticks").fetchone()
        assert row
        return int(row[0])

    def grow() -> None:
        before = ticks()
        until(lambda: ticks() > before + 2, every=0.2)

    grow()
    assert "no maintenance today" in checkout.run("logs", "gateway").stdout
    os.kill(checkout.pid("postgres"), signal.SIGKILL)
    checkout.start()
    grow()

    checkout.run("stop")
    checkout.run("start", "--no-ticker")
    before = ticks()
    time.sleep(2.5)
    assert ticks() == before
