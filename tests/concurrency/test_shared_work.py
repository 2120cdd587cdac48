"""Many processes that look for the same work, and one user who uploads from everywhere at once."""

import json
import uuid
from functools import partial
from typing import Any

import pytest
from psycopg import sql

from tests.support.ledger import Ledger
from tests.support.sessions import Bank, Call, codes, successes

REQUEST = "0" * 64


def take(session: Ledger, process: str, batch: int) -> list[str]:
    """The jobs that a process is handed."""
    query = sql.SQL("select jsonb_agg(j -> 'id') from public.lease_generations({}, 45, {}) as j")
    found: Any = session.ask("service_role", "{}", query.format(process, batch))
    return found or []


@pytest.mark.parametrize("batch", [100, 3])
def test_each_task_is_handed_to_one_process(bank: Bank, batch: int) -> None:
    """Those that come at the same moment wait for nobody, and share the work."""
    jobs: dict[str, dict[str, str]] = {}
    for _ in range(30):
        user = bank.user(100)
        begun = bank.owner.as_user(
            user, "begin_generation", operation="stable_diffusion", quantity=1, request=REQUEST
        )
        key = {"account_id": begun["account_id"], "job_id": begun["id"]}
        bank.owner.as_service("dispatch_generation", **key)
        bank.owner.as_service("note_generation", **key, provider_job_id="task")
        jobs[begun["id"]] = key
    processes = [str(uuid.uuid4()) for _ in range(8)]
    sessions = bank.sessions(8)
    handed: list[str] = []
    for _ in range(6):
        calls: list[Call] = [
            partial(take, session, process, batch)
            for session, process in zip(sessions, processes, strict=True)
        ]
        answers = bank.all_at_once(calls)
        assert codes(answers) == []
        handed += [job for answer in answers for job in answer]
    assert len(handed) == len(set(handed))
    assert set(handed) == set(jobs)
    for key in jobs.values():
        bank.owner.as_service("finish_generation", **key, outcome="failed")
    bank.check()


def test_a_task_that_is_locked_is_left_to_the_next_look(bank: Bank) -> None:
    user = bank.user(100)
    begun = bank.owner.as_user(
        user, "begin_generation", operation="stable_diffusion", quantity=1, request=REQUEST
    )
    key = {"account_id": begun["account_id"], "job_id": begun["id"]}
    bank.owner.as_service("dispatch_generation", **key)
    bank.owner.as_service("note_generation", **key, provider_job_id="task")
    [session] = bank.sessions(1)
    holder = bank.owner_session().connection
    with holder.transaction():
        holder.execute("select from public.generation_jobs where id = %s for update", [begun["id"]])
        assert take(session, str(uuid.uuid4()), 100) == []
    assert take(session, str(uuid.uuid4()), 100) == [begun["id"]]
    bank.owner.as_service("finish_generation", **key, outcome="failed")
    bank.check()


def test_uploads_at_once_do_not_pass_the_limit(bank: Bank) -> None:
    bank.owner.rows("update credits.billing_settings set max_input_files = 5")
    try:
        user = bank.user(1)
        account = bank.owner.account(user)["id"]
        claims = json.dumps({"role": "authenticated", "sub": user, "aud": "authenticated"})
        insert = sql.SQL(
            "insert into storage.objects (bucket_id, name, metadata) values ('generations', {}, "
            """'{{"mimetype": "image/png", "size": 1}}') returning to_jsonb(name)"""
        )
        calls: list[Call] = [
            partial(session.ask, "authenticated", claims, insert.format(f"{account}/inputs/{number}.png"))
            for number, session in enumerate(bank.sessions(20))
        ]
        answers = bank.all_at_once(calls)
    finally:
        bank.owner.rows("update credits.billing_settings set max_input_files = 100")
    assert (len(successes(answers)), codes(answers)) == (5, ["42501"] * 15)
    assert (
        bank.owner.value(
            "select count(*) from storage.objects where starts_with(name, %s)", f"{account}/inputs/"
        )
        == 5
    )
