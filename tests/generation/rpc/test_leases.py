"""Which process sees to work that a provider does for minutes, and who takes it over."""

from typing import Any

import pytest

from tests.support.clock import SECOND
from tests.support.ledger import Ledger, Refused
from tests.support.studio import Studio

ONE, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


def at_provider(studio: Studio, process: str | None = ONE, **terms: Any) -> str:
    """A job that a provider works on, seen to by the process."""
    job = studio.dispatched(studio.buyer(), studio.operation(**terms))
    studio.service("note_generation", job, provider_job_id="task-1", process=process)
    return job


def taken(studio: Studio, process: str, **arguments: Any) -> list[str]:
    found = studio.ledger.rows(
        "select * from public.lease_generations(%s::uuid, batch => %s)", process, arguments.get("batch", 100)
    )
    return [row["lease_generations"]["id"] for row in found]


def test_another_process_takes_over_when_the_lease_has_ended(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    job = at_provider(studio)
    assert taken(studio, OTHER) == []
    own_ledger.pass_time(44 * SECOND)
    assert taken(studio, OTHER) == []
    renewed = studio.service("note_generation", job, extend_seconds=90, process=ONE)
    assert renewed["leased_by"] == ONE
    own_ledger.pass_time(44 * SECOND)
    assert taken(studio, OTHER) == []
    own_ledger.pass_time(2 * SECOND)
    assert taken(studio, OTHER) == [job]
    # The first one lives after all: it learns that it has lost the job, and changes nothing.
    before = own_ledger.rows("select * from public.generation_jobs where id = %s", job)
    late = studio.service("note_generation", job, extend_seconds=300, process=ONE)
    assert late["leased_by"] == OTHER
    assert own_ledger.rows("select * from public.generation_jobs where id = %s", job) == before
    assert taken(studio, ONE) == []


def test_a_job_that_nobody_took_is_still_its_own(own_ledger: Ledger) -> None:
    """A process that was slow goes on."""
    studio = Studio(own_ledger)
    job = at_provider(studio, deadline_seconds=600)
    own_ledger.pass_time(300 * SECOND)
    assert studio.service("note_generation", job, process=ONE)["leased_by"] == ONE
    assert taken(studio, OTHER) == []


def test_only_what_a_provider_works_on_is_taken(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    at_once = studio.dispatched(studio.buyer(), studio.operation())
    held = studio.begin(studio.buyer(), studio.operation())["id"]
    over, late, free = at_provider(studio), at_provider(studio, deadline_seconds=5), at_provider(studio, None)
    studio.finish(over, "failed")
    own_ledger.pass_time(46 * SECOND)
    assert taken(studio, OTHER) == [free]
    assert {at_once, held, over, late}.isdisjoint(taken(studio, ONE))


def test_whoever_charges_charges_once(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    job = at_provider(studio)
    own_ledger.pass_time(46 * SECOND)
    assert taken(studio, OTHER) == [job]
    first, second = studio.finish(job, "succeeded", 1), studio.finish(job, "failed")
    assert (first["credits_charged"], second) == (10, first)
    assert len(studio.usage(job)) == 1
    assert own_ledger.broken() == []


def test_more_than_a_hundred_are_all_reached(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    operation = studio.operation(deadline_seconds=600)
    jobs = {studio.dispatched(studio.buyer(), operation) for _ in range(130)}
    for job in jobs:
        studio.service("note_generation", job, provider_job_id=job)
    first, second, rest = taken(studio, ONE), taken(studio, OTHER, batch=20), taken(studio, OTHER, batch=9999)
    assert (len(first), len(second), len(rest)) == (100, 20, 10)
    assert {*first, *second, *rest} == jobs
    assert taken(studio, ONE) == []


def test_a_process_that_ends_gives_back_its_own_only(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    mine, theirs = at_provider(studio), at_provider(studio, OTHER)
    assert own_ledger.as_service("release_generations", process=ONE) == 1
    assert own_ledger.as_service("release_generations", process=ONE) == 0
    assert taken(studio, OTHER) == [mine]
    own_ledger.pass_time(46 * SECOND)
    assert sorted(taken(studio, ONE)) == sorted([mine, theirs])


@pytest.mark.parametrize("seconds", [0, -1, 301])
def test_a_lease_is_short(studio: Studio, seconds: int) -> None:
    job = at_provider(studio)
    with pytest.raises(Refused) as caught:
        studio.service("note_generation", job, process=ONE, lease_seconds=seconds)
    assert caught.value.code == "PT400"
    with pytest.raises(Refused) as caught:
        studio.ledger.as_service("lease_generations", process=ONE, lease_seconds=seconds)
    assert caught.value.code == "PT400"


def test_a_process_must_say_who_it_is(studio: Studio) -> None:
    with pytest.raises(Refused) as caught:
        studio.ledger.rows("select * from public.lease_generations(null)")
    assert caught.value.code == "PT400"


def test_what_cannot_be_done_is_declined_before_a_provider_is_asked(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.operation()
    error = {"status": 404, "code": "PT404", "message": "There is no such file among your inputs."}
    job = studio.begin(user, operation, key="k")["id"]
    declined = studio.service("decline_generation", job, error=error)
    assert (declined["status"], declined["error"], declined["credits_charged"]) == ("failed", error, 0)
    assert studio.ledger.account(user)["held"] == 0
    assert studio.usage(job) == []  # nobody was asked
    assert studio.service("dispatch_generation", job) is None
    assert studio.service("decline_generation", job, error={"status": 500}) == declined
    # Whoever has dispatched it is not disturbed.
    running = studio.dispatched(user, operation)
    assert studio.service("decline_generation", running, error=error)["status"] == "dispatched"
    assert studio.finish(running, "succeeded", 1)["credits_charged"] == 10
    assert studio.ledger.broken(user) == []
