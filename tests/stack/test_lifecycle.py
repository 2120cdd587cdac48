"""Starting, stopping, breaking and repairing a stack."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable

import httpx
import psycopg
import pytest

from scripts.local_stack import ports
from scripts.local_stack.processes import start_time
from scripts.local_stack.stack import PARTS

from .conftest import Checkout


def test_status_says_that_nothing_runs(checkout: Checkout) -> None:
    answer = checkout.run("status", check=False)
    assert answer.returncode == 1
    assert "is not running" in answer.stderr
    assert "scripts/stack start" in answer.stderr


def test_starts_in_under_ten_seconds_and_stop_leaves_no_process(checkout: Checkout) -> None:
    began = time.monotonic()
    checkout.start()
    assert time.monotonic() - began < 10
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


def test_second_start_is_quick_and_says_so(running: Checkout) -> None:
    before = running.processes()
    began = time.monotonic()
    answer = running.start()
    assert time.monotonic() - began < 2
    assert "already running" in answer.stderr
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
    deadline = time.monotonic() + 20
    while (answer := running.rest("kept?select=id")).status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.2)  # a killed backend: Postgres restarts by itself, and PostgREST connects again
    assert len(answer.json()) == expected


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
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    time.sleep(after)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal sends Ctrl-C to the whole group
    else:
        process.send_signal(number)
    status = process.wait(timeout=30)
    if status == 0:
        checkout.run("stop")  # it had come up in time
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
            create function credits.run_maintenance(settle_after interval default '0', batch int default 9)
            returns jsonb
            language plpgsql as $$
            declare n bigint := nextval('credits.calls');
            begin
                if n % 3 = 0 then raise exception 'no maintenance today'; end if;
                insert into credits.ticks default values;
                return jsonb_build_object('more', true, 'settle_after', settle_after);
            end $$
            """
        )

    def ticks() -> int:
        with checkout.connect() as db:
            row = db.execute("select count(*) from credits.ticks").fetchone()
        assert row
        return int(row[0])

    def grows() -> bool:
        before, deadline = ticks(), time.monotonic() + 15
        while time.monotonic() < deadline:
            if ticks() > before + 2:
                return True
            time.sleep(0.2)
        return False

    assert grows()
    assert "no maintenance today" in checkout.run("logs", "gateway").stdout
    os.kill(checkout.pid("postgres"), signal.SIGKILL)
    checkout.start()
    assert grows()

    checkout.run("stop")
    checkout.run("start", "--no-ticker")
    before = ticks()
    time.sleep(2.5)
    assert ticks() == before
