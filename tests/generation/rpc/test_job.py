"""The life of a generation job in the ledger: hold, dispatch, outcome, and what the sweep does."""

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.support.clock import SECOND
from tests.support.ledger import Ledger, Refused
from tests.support.studio import REQUEST, Studio

ME = "00000000-0000-4000-8000-00000000000a"


def held(studio: Studio, user: str) -> tuple[int, int]:
    account = studio.ledger.account(user)
    return account["balance"], account["held"]


def test_what_was_delivered_is_charged(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.operation(cost="0.04")
    job = studio.dispatched(user, operation, 3)
    assert held(studio, user) == (100, 30)
    done = studio.finish(job, "succeeded", 3, latency_ms=900)
    assert (done["status"], done["credits_charged"], done["available"]) == ("succeeded", 30, 70)
    assert held(studio, user) == (70, 0)
    assert studio.usage(job) == [
        {
            "status": "succeeded",
            "units": 3,
            "provider_cost": Decimal("0.12"),
            "transaction_id": done["transaction_id"],
        }
    ]
    assert studio.ledger.broken(user) == []


def test_a_part_is_charged_in_part(studio: Studio) -> None:
    user = studio.buyer()
    job = studio.dispatched(user, studio.operation(), 4)
    assert studio.finish(job, "succeeded", 1)["credits_charged"] == 10
    assert held(studio, user) == (90, 0)
    assert studio.usage(job)[0]["status"] == "partial"


@pytest.mark.parametrize(
    ("outcome", "charge_refusals", "charged"),
    [
        ("refused", None, 0),
        ("refused", False, 0),
        ("refused", True, 20),
        ("failed", True, 0),
        ("canceled", True, 0),
    ],
)
def test_nothing_delivered_is_not_charged_unless_the_tier_says_so(
    studio: Studio, outcome: str, charge_refusals: bool | None, charged: int
) -> None:
    user, operation = studio.buyer(), studio.operation(charge_refusals=charge_refusals)
    job = studio.dispatched(user, operation, 2)
    error = {"status": 422, "code": "policy", "message": "No."}
    done = studio.finish(job, outcome, error=error)
    assert (done["status"], done["credits_charged"], done["error"]) == (outcome, charged, error)
    assert held(studio, user) == (100 - charged, 0)


def test_each_step_can_come_twice(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.operation()
    first = studio.begin(user, operation, key="k")
    assert studio.begin(user, operation, key="k")["id"] == first["id"]
    assert studio.service("dispatch_generation", first["id"])["id"] == first["id"]
    # Only one may ask the provider.
    assert studio.service("dispatch_generation", first["id"]) is None
    done = studio.finish(first["id"], "succeeded", 1)
    assert studio.finish(first["id"], "failed") == done
    assert studio.begin(user, operation, key="k") == done
    assert len(studio.usage(first["id"])) == 1


def test_a_key_is_for_one_request(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.operation()
    studio.begin(user, operation, key="k")
    assert studio.begin(user, operation, key="k", request="1" * 64)["code"] == "PT409"
    studio.ledger.as_user(user, "hold_credits", operation="one", idempotency_key="other")
    assert studio.begin(user, operation, key="other")["code"] == "PT409"
    assert studio.begin(user, "one", key="other")["code"] == "PT409"


@pytest.mark.parametrize(
    ("change", "code"),
    [({"operation": "nothing"}, "PT404"), ({"quantity": 0}, "PT400"), ({"quantity": 11}, "PT402")],
)
def test_a_refusal_holds_nothing(studio: Studio, change: dict[str, Any], code: str) -> None:
    user = studio.buyer()
    refused = studio.begin(user, **({"operation": studio.operation()} | change))
    assert refused["code"] == code
    assert {"message", "details", "hint"} < refused.keys()
    assert held(studio, user) == (100, 0)


def test_the_request_must_be_a_digest(studio: Studio) -> None:
    with pytest.raises(Refused) as caught:
        studio.begin(studio.buyer(), "one", request="a cat")
    assert caught.value.code == "PT400"


def test_the_provider_is_that_of_the_pinned_price(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.operation(deadline_seconds=60)
    job = studio.begin(user, operation)
    studio.ledger.rows(
        "update public.pricing_tiers set provider = 'other', credits_per_unit = 99, terms = '{}' "
        "where operation = %s",
        operation,
    )
    assert (job["provider"], job["model"]) == (operation, "m")
    dispatched = studio.service("dispatch_generation", job["id"])
    assert dispatched["terms"] == {"output": "image", "deadline_seconds": 60, "charge_refusals": False}
    assert studio.finish(job["id"], "succeeded", 1)["credits_charged"] == 10


def test_an_undispatched_job_is_swept_after_a_minute(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    user = studio.buyer()
    job = studio.begin(user, studio.operation(cost="1"))["id"]
    own_ledger.pass_time(61 * SECOND)
    own_ledger.rows("select credits.run_maintenance()")
    assert own_ledger.as_user(user, "my_generation", job_id=job)["status"] == "failed"
    assert held(studio, user) == (100, 0)
    assert studio.usage(job) == []


def test_a_job_that_was_not_dispatched_in_time_is_not_dispatched_at_all(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    user = studio.buyer()
    job = studio.begin(user, studio.operation())["id"]
    own_ledger.pass_time(61 * SECOND)
    assert studio.service("dispatch_generation", job)["error"]["code"] == "not_dispatched"
    assert held(studio, user) == (100, 0)


def test_past_its_deadline_a_job_is_swept_and_its_cost_is_our_loss(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    user = studio.buyer()
    job = studio.dispatched(user, studio.operation(cost="0.5", deadline_seconds=30), 2)
    studio.service("note_generation", job, unknown=True)
    own_ledger.pass_time(29 * SECOND)
    own_ledger.rows("select credits.run_maintenance()")
    assert held(studio, user) == (100, 20)
    own_ledger.pass_time(2 * SECOND)
    own_ledger.rows("select credits.run_maintenance()")
    assert held(studio, user) == (100, 0)
    assert studio.usage(job) == [
        {"status": "unknown", "units": 0, "provider_cost": Decimal("1.0"), "transaction_id": None}
    ]
    # The answer that comes after all changes nothing.
    late = studio.finish(job, "succeeded", 2)
    assert (late["status"], late["credits_charged"], late["outputs"]) == ("expired", 0, [])
    assert own_ledger.rows("select lost_cost, credits from credits.generation_margins") == [
        {"lost_cost": Decimal("1.0"), "credits": 0}
    ]
    assert own_ledger.broken(user) == []


def test_a_hold_ends_within_a_minute_of_the_deadline_with_no_sweep_at_all(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    user = studio.buyer()
    job = studio.dispatched(user, studio.operation(deadline_seconds=30))
    own_ledger.pass_time(90 * SECOND)
    assert own_ledger.as_user(user, "my_credits")["available"] == 100
    assert studio.finish(job, "succeeded", 1)["status"] == "expired"


@pytest.mark.parametrize(("by_hand", "charged"), [("capture_hold", 10), ("release_hold", 0)])
@pytest.mark.parametrize("end", ["finish", "sweep"])
def test_a_hold_that_an_operator_ended_by_hand_does_not_stop_its_job(
    own_ledger: Ledger, by_hand: str, charged: int, end: str
) -> None:
    studio = Studio(own_ledger)
    user, operation = studio.buyer(), studio.operation(deadline_seconds=30)
    job, other = studio.dispatched(user, operation), studio.dispatched(user, operation)
    names = own_ledger.rows("select account_id, hold_id from public.generation_jobs where id = %s", job)[0]
    own_ledger.as_service(by_hand, **names)
    if end == "finish":
        assert studio.finish(job, "succeeded", 1)["outputs"] == []
    own_ledger.pass_time(31 * SECOND)
    own_ledger.rows("select credits.run_maintenance()")
    for one, cost in ((job, charged), (other, 0)):
        ended = own_ledger.as_user(user, "my_generation", job_id=one)
        assert (ended["status"], ended["credits_charged"]) == ("expired", cost)
    assert held(studio, user) == (100 - charged, 0)
    assert own_ledger.broken(user) == []


def test_a_heartbeat_keeps_job_and_hold(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    user = studio.buyer()
    job = studio.dispatched(user, studio.operation(deadline_seconds=30))
    for _ in range(5):
        own_ledger.pass_time(25 * SECOND)
        noted = studio.service("note_generation", job, provider_job_id="task-1", extend_seconds=30)
        assert noted["status"] == "running"
        own_ledger.rows("select credits.run_maintenance()")
    assert studio.finish(job, "succeeded", 1)["credits_charged"] == 10
    assert own_ledger.broken(user) == []


def test_a_heartbeat_ends_with_the_longest_hold(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    own_ledger.rows("update credits.billing_settings set hold_ttl = '1 minute', hold_ttl_max = '2 minutes'")
    user = studio.buyer()
    job = studio.dispatched(user, studio.operation(deadline_seconds=30))
    began = own_ledger.now()
    noted = studio.service("note_generation", job, extend_seconds=3600)
    assert noted["deadline_at"] == (began + 75 * SECOND).isoformat()


def test_cancelling(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.operation()
    waiting = studio.begin(user, operation)["id"]
    assert studio.ledger.as_user(user, "cancel_generation", job_id=waiting)["status"] == "canceled"
    assert held(studio, user) == (100, 0)
    running = studio.dispatched(user, operation)
    wished = studio.ledger.as_user(user, "cancel_generation", job_id=running)
    assert (wished["status"], wished["cancel_requested_at"] is not None) == ("dispatched", True)
    assert studio.finish(running, "canceled")["credits_charged"] == 0


@pytest.mark.parametrize("function", ["my_generation", "cancel_generation"])
def test_another_users_job_is_not_there(studio: Studio, function: str) -> None:
    job = studio.begin(studio.buyer(), studio.operation())["id"]
    with pytest.raises(Refused) as caught:
        studio.ledger.as_user(studio.buyer(), function, job_id=job)
    assert caught.value.code == "PT404"


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("dispatch_generation", {}),
        ("note_generation", {"unknown": True}),
        ("decline_generation", {"error": None}),
        ("finish_generation", {"outcome": "failed"}),
    ],
)
@pytest.mark.parametrize("account", ["another", "none", "unknown"])
def test_a_job_is_found_by_its_own_account_only(
    studio: Studio, function: str, arguments: dict[str, Any], account: str
) -> None:
    job = studio.begin(studio.buyer(), studio.operation())
    other = studio.begin(studio.buyer(), studio.operation())
    wrong = {"another": other["account_id"], "none": None, "unknown": str(uuid.uuid4())}[account]
    with pytest.raises(Refused) as caught:
        studio.ledger.as_service(function, account_id=wrong, job_id=job["id"], **arguments)
    assert (caught.value.code, caught.value.message) == ("PT404", "There is no such job.")
    with pytest.raises(Refused) as caught:
        studio.ledger.as_service(function, job_id=job["id"], **arguments)
    assert caught.value.code == "42883"
    assert studio.service("note_generation", job["id"])["status"] == "held"


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("dispatch_generation", {}),
        ("note_generation", {}),
        ("decline_generation", {"error": None}),
        ("finish_generation", {"outcome": "failed"}),
        ("lease_generations", {"process": ME}),
        ("release_generations", {"process": ME}),
        ("sweep_files", {"process": ME}),
    ],
)
def test_users_cannot_take_the_functions_steps(
    studio: Studio, function: str, arguments: dict[str, Any]
) -> None:
    user = studio.buyer()
    if "process" not in arguments:
        job = studio.begin(user, studio.operation())
        arguments = {"account_id": job["account_id"], "job_id": job["id"], **arguments}
    with pytest.raises(Refused) as caught:
        studio.ledger.as_user(user, function, **arguments)
    assert caught.value.code == "42501"


@pytest.mark.parametrize(
    "change",
    [{"outcome": "won"}, {"outcome": "succeeded"}, {"outcome": "failed", "outputs": 1}, {"outputs": 3}],
)
def test_nonsense_outcomes_are_refused(studio: Studio, change: dict[str, Any]) -> None:
    user = studio.buyer()
    job = studio.dispatched(user, studio.operation(), 2)
    with pytest.raises(Refused) as caught:
        arguments: dict[str, Any] = {"outcome": "succeeded", "outputs": 0} | change
        studio.finish(job, **arguments)
    assert caught.value.code == "PT400"
    assert held(studio, user) == (100, 20)


def test_limits_count_refused_calls_and_not_repeats(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    own_ledger.rows("update credits.billing_settings set max_generations_per_minute = 3")
    user, operation = studio.buyer(), studio.operation()
    studio.begin(user, operation, key="k")
    assert studio.begin(user, "nothing")["code"] == "PT404"
    assert studio.begin(user, operation, quantity=99)["code"] == "PT402"
    refused = studio.begin(user, operation)
    assert refused["code"] == "PT429"
    assert '"retry_after": 60' in refused["details"]
    assert "id" in studio.begin(user, operation, key="k")
    own_ledger.pass_time(timedelta(minutes=1))
    assert "id" in studio.begin(user, operation)
    # Another user's count is another.
    assert "id" in studio.begin(studio.buyer(), operation)


def test_jobs_in_flight_are_limited(own_ledger: Ledger) -> None:
    studio = Studio(own_ledger)
    own_ledger.rows("update credits.billing_settings set max_generations_in_flight = 2")
    user, operation = studio.buyer(), studio.operation()
    job = studio.dispatched(user, operation)
    studio.begin(user, operation, key="k")
    assert studio.begin(user, operation)["code"] == "PT429"
    assert "id" in studio.begin(user, operation, key="k")
    studio.finish(job, "failed")
    assert "id" in studio.begin(user, operation)
    assert held(studio, user) == (100, 20)


def test_a_job_whose_time_is_over_is_not_in_flight(own_ledger: Ledger) -> None:
    """Or who left some would wait for maintenance, which an app may run rarely."""
    studio = Studio(own_ledger)
    own_ledger.rows("update credits.billing_settings set max_generations_in_flight = 2")
    user, operation = studio.buyer(), studio.operation()
    studio.begin(user, operation)
    studio.dispatched(user, operation)
    own_ledger.pass_time(timedelta(minutes=1))
    assert studio.begin(user, operation)["status"] == "held"
    assert studio.begin(user, operation)["code"] == "PT429"
    own_ledger.pass_time(timedelta(minutes=2))
    for _ in range(2):
        assert studio.begin(user, operation)["status"] == "held"
    assert own_ledger.broken() == []


def test_a_hold_made_beforehand_does_not_become_a_job(studio: Studio) -> None:
    """It is past no limit, and what it holds is not what a generation costs."""
    user, operation = studio.buyer(), studio.operation()
    studio.ledger.as_user(
        user, "hold_credits", operation=operation, idempotency_key="a", ttl="00:01:45",
        metadata={"request": REQUEST},
    )  # fmt: skip
    assert studio.begin(user, operation, key="a")["code"] == "PT409"
    assert held(studio, user) == (100, 10)


def test_requests_are_seen_by_their_digest_only(studio: Studio) -> None:
    """Which is the job's own: no metadata of a hold can say another."""
    user = studio.buyer()
    job = studio.begin(user, studio.operation())
    assert job["request"] == REQUEST
    hold = "select metadata, id from public.credit_holds where id = %s"
    assert studio.ledger.rows(hold, job["hold_id"])[0]["metadata"] == {}
    studio.ledger.rows(
        'update public.credit_holds set metadata = \'{"request": "another"}\' where id = %s', job["hold_id"]
    )
    assert studio.ledger.as_user(user, "my_generation", job_id=job["id"])["request"] == REQUEST


def test_the_digest_of_a_request_is_erased_once_the_job_is_over(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.operation()
    done, other = studio.dispatched(user, operation), studio.dispatched(user, operation)
    running = studio.begin(user, operation)
    paid = studio.finish(done, "succeeded", 1)
    studio.finish(other, "failed")

    def requests() -> list[Any]:
        rows = studio.ledger.rows(
            "select id::text, request from public.generation_jobs where account_id = %s",
            running["account_id"],
        )
        known = {row["id"]: row["request"] for row in rows}
        return [known[job if isinstance(job, str) else job["id"]] for job in (done, other, running)]

    assert requests() == [REQUEST] * 3
    studio.ledger.as_service(
        "erase_transaction_text", account_id=running["account_id"], transaction_id=paid["transaction_id"]
    )
    assert requests() == [None, REQUEST, REQUEST]
    told = studio.ledger.as_service("erase_account_text", account_id=running["account_id"])
    assert requests() == [None, None, REQUEST]
    assert (told["holds"], told["open"]) == (1, 1)
    assert studio.ledger.broken(user) == []
