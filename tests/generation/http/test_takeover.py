"""Work at a provider whose process is gone, beside processes that live; and files that nobody needs."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import psycopg

from scripts.local.providers.control import Control
from scripts.local.stack import Stack
from supabase import Client
from tests.support.clock import until
from tests.support.generate import GenerateUser, ended, started
from tests.support.served import Served
from tests.support.uploads import stored_files

LEASE = 3  # seconds, as conftest sets it


def polls(control: Control, prompt: str) -> int:
    return len(control.calls("runway", "poll", match=prompt))


def processes(ann: GenerateUser, job: str) -> str:
    return str(ann.row(job)["leased_by"])


def test_a_living_process_takes_over_without_being_asked(
    ann: GenerateUser, serve: Callable[..., Served], prompt: str, control: Control
) -> None:
    """Kill -9 of the process with the task, beside one that has served for a while."""
    control.tasks(hold=True)
    first, second = serve(), serve()
    job = started(ann, first, prompt)
    before = processes(ann, job)
    first.kill()
    control.tasks(hold=False)
    assert ended(ann, job) == "succeeded"
    assert processes(ann, job) != before
    assert control.paid(match=prompt) == 1
    ann.expect(50)
    assert ann.usage() == ["succeeded"]
    second.kill()


def test_two_processes_never_see_to_the_same_task(
    ann: GenerateUser, serve: Callable[..., Served], served: Served, prompt: str, control: Control
) -> None:
    """Neither looking for lost tasks nor being asked makes a second process poll."""
    control.tasks(hold=True)
    other = serve(GENERATION_POLL_SECONDS="0.05")
    job = started(ann, served, prompt)
    owner = processes(ann, job)
    began, polled = time.monotonic(), polls(control, prompt)
    while time.monotonic() - began < LEASE * 1.5:
        assert ann.get(other, job).status_code == 202
        time.sleep(0.1)
    seconds = time.monotonic() - began
    assert processes(ann, job) == owner
    assert 1 <= polls(control, prompt) - polled <= seconds / 0.2 + 2  # the other polls four times as often
    control.tasks(hold=False)
    assert ended(ann, job) == "succeeded"
    ann.expect(50)
    other.kill()


def test_a_process_that_lost_its_lease_stops(
    ann: GenerateUser,
    serve: Callable[..., Served],
    db: "psycopg.Connection[Any]",
    prompt: str,
    control: Control,
) -> None:
    control.tasks(hold=True)
    loser = serve()
    job = started(ann, loser, prompt)
    db.execute(
        "update public.generation_jobs set leased_by = gen_random_uuid(), "
        "leased_until = now() + interval '1 hour' where id = %s", [job],
    )  # fmt: skip
    until(lambda: "another process sees to it now" in loser.log())
    polled = polls(control, prompt)
    control.tasks(hold=False)
    time.sleep(1)
    assert polls(control, prompt) <= polled + 1
    assert ann.row(job)["status"] == "running"  # it is the other's to finish
    db.execute("update public.generation_jobs set leased_until = now() where id = %s", [job])
    assert ended(ann, job) == "succeeded"
    ann.expect(50)
    loser.kill()


def test_two_that_deliver_the_same_charge_once(
    ann: GenerateUser,
    serve: Callable[..., Served],
    db: "psycopg.Connection[Any]",
    prompt: str,
    control: Control,
) -> None:
    """The lease is taken away while the first one fetches, so that both store and finish."""
    control.tasks(hold=True)
    first = serve(GENERATION_LEASE_SECONDS="300")
    job = started(ann, first, prompt)
    control.fault("runway", "slow", on="fetch", ms=3000, times=2, match=prompt)
    control.tasks(hold=False)
    until(lambda: control.calls("runway", "fetch", match=prompt))
    db.execute("update public.generation_jobs set leased_until = now() where id = %s", [job])
    second = serve()
    assert ended(ann, job) == "succeeded"
    until(lambda: len(control.calls("runway", "fetch", match=prompt)) == 2)
    time.sleep(1)
    for served in (first, second):
        assert "Traceback" not in served.log()
    ann.expect(50)
    assert ann.usage() == ["succeeded"]
    path = ann.row(job)["outputs"][0]["path"]
    assert ann.user.client.storage.from_("generations").download(path)[4:8] == b"ftyp"
    assert control.paid(match=prompt) == 1
    first.kill()
    second.kill()


def test_a_process_that_ends_hands_over_at_once(
    ann: GenerateUser, serve: Callable[..., Served], prompt: str, control: Control
) -> None:
    control.tasks(hold=True)
    first = serve(GENERATION_LEASE_SECONDS="300")
    job = started(ann, first, prompt)
    first.terminate()
    assert first.wait_dead() in (0, -15)
    control.tasks(hold=False)
    second = serve()
    assert ended(ann, job) == "succeeded"
    ann.expect(50)
    second.kill()


def test_whoever_is_asked_looks_at_once(
    ann: GenerateUser,
    serve: Callable[..., Served],
    db: "psycopg.Connection[Any]",
    prompt: str,
    control: Control,
) -> None:
    control.tasks(hold=True)
    first, second = serve(), serve(GENERATION_LEASE_SECONDS="300")  # which looks every 100 s
    job = started(ann, first, prompt)
    first.kill()
    control.tasks(hold=False)
    db.execute("update public.generation_jobs set leased_until = now() where id = %s", [job])
    assert ann.get(second, job).status_code == 202
    assert ended(ann, job) == "succeeded"
    ann.expect(50)
    second.kill()


MANY = """
do $$
declare
  job jsonb;
begin
  for number in 1 .. 104 loop
    job := public.begin_generation('gen_small_video', 1, repeat('0', 64), number::text);
    perform public.dispatch_generation((job ->> 'account_id')::uuid, (job ->> 'id')::uuid);
    perform public.note_generation(
      (job ->> 'account_id')::uuid, (job ->> 'id')::uuid, current_setting('test.task'),
      process => gen_random_uuid(), lease_seconds => 1
    );
  end loop;
end
$$
"""


def test_more_than_a_hundred_tasks_of_dead_processes(
    ann: GenerateUser,
    serve: Callable[..., Served],
    db: "psycopg.Connection[Any]",
    prompt: str,
    control: Control,
) -> None:
    """One is asked for; the others are at the same task of the provider, to whom that makes no difference."""
    control.tasks(hold=True)
    first = serve()
    job = started(ann, first, prompt, operation="gen_small_video")
    with db.transaction():
        limit = db.execute("select max_generations_in_flight from credits.billing_settings").fetchone()
        assert limit
        db.execute(
            "update credits.billing_settings "
            "set max_generations_in_flight = 200, max_generations_per_minute = 200"
        )
        claims = {"role": "authenticated", "sub": ann.user.id, "aud": "authenticated"}
        db.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
        db.execute("select set_config('test.task', %s, true)", [ann.row(job)["provider_job_id"]])
        db.execute(MANY)
        db.execute(
            "update credits.billing_settings "
            "set max_generations_in_flight = %s, max_generations_per_minute = 60", limit,
        )  # fmt: skip
    first.kill()
    control.tasks(hold=False)
    second = serve()
    until(lambda: all(row["finished_at"] for row in ann.all_jobs()), 60)
    assert [row["status"] for row in ann.all_jobs()] == ["succeeded"] * 105
    ann.expect(105)
    second.kill()


def test_files_that_nobody_needs_are_deleted(
    ann: GenerateUser, serve: Callable[..., Served], service: Client, db: "psycopg.Connection[Any]",
    stack: Stack, prompt: str, control: Control,
) -> None:  # fmt: skip
    """Through Storage, bytes and all: beside jobs that run, outputs, and files of others."""
    killed = serve("tests.generation.http.fragile", KILL_AT="upload:after")
    with suppress(httpx.TransportError):
        ann.post(killed, prompt, key="orphan")
    killed.wait_dead()
    ann.sweep()
    (orphaned,) = ann.all_jobs()
    control.tasks(hold=True)
    first = serve()
    kept = ann.post(first, prompt).json()["job"]
    running = started(ann, first, prompt)
    bucket = service.storage.from_("generations")
    names = {
        "orphan": f"{ann.account}/{orphaned['id']}/0.png",
        "output": ann.row(kept)["outputs"][0]["path"],
        "running": f"{ann.account}/{running}/0.mp4",
        "old": ann.upload("old.png"),
        "new": ann.upload("new.png"),
        "foreign": f"{ann.account}/theirs/0.png",
    }
    for name in ("running", "foreign"):
        bucket.upload(names[name], b"x", {"content-type": "image/png"})
    aged = [path for name, path in names.items() if name != "new"]
    db.execute(
        "update storage.objects set created_at = now() - interval '8 days' where name = any(%s)", [aged]
    )
    db.execute(
        "update public.generation_jobs set finished_at = now() - interval '2 days' where account_id = %s "
        "and finished_at is not null", [ann.account],
    )  # fmt: skip
    db.execute("update credits.file_sweep set leased_until = null, swept_at = null, after = null")
    version = db.execute("select version from storage.objects where name = %s", [names["orphan"]]).fetchone()
    assert version and any(str(version[0]) in name for name in stored_files(stack))
    second = serve(GENERATION_SWEEP_SECONDS="0.5")
    until(lambda: not bucket.exists(names["orphan"]) and not bucket.exists(names["old"]))
    left = {name for name, path in names.items() if bucket.exists(path)}
    assert left == {"output", "running", "new", "foreign"}
    assert not any(str(version[0]) in name for name in stored_files(stack))
    control.tasks(hold=False)
    assert ended(ann, running) == "succeeded"
    ann.expect(60)
    for served in (first, second):
        served.kill()
