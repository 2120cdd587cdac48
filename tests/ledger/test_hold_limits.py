"""Holds cost nothing, so there is a limit to what of them one account can leave behind."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from supabase import Client, PostgrestAPIError
from tests.support.clock import DAY, MINUTE, SECOND
from tests.support.ledger import Ledger, Refused, buyer
from tests.support.stack import User
from tests.support.studio import Studio


def hold(ledger: Ledger, user: str, **arguments: Any) -> dict[str, Any]:
    made: dict[str, Any] = ledger.as_user(user, "hold_credits", operation="one", **arguments)
    return made


def refusal(ledger: Ledger, user: str, **arguments: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        hold(ledger, user, **arguments)
    assert caught.value.code == "PT429"
    assert caught.value.hint
    return caught.value


def limits(ledger: Ledger, **values: Any) -> None:
    for name, value in values.items():
        ledger.rows(f"update credits.billing_settings set {name} = %s", value)


def holds(ledger: Ledger) -> int:
    count: int = ledger.value("select count(*) from public.credit_holds")
    return count


def test_so_many_holds_in_any_minute(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 1000)
    limits(ledger, max_holds_per_minute=3)
    for number in range(3):
        hold(ledger, user, ttl=SECOND, idempotency_key=str(number))
        ledger.pass_time(10 * SECOND)
    refused = refusal(ledger, user, idempotency_key="new")
    assert refused.message == "Too many holds in this minute."
    assert refused.details == {"limit": 3, "retry_after": 30}
    # A repeat makes no hold; nor does the account of another pay for this one.
    assert hold(ledger, user, ttl=SECOND, idempotency_key="0")["idempotency_key"] == "0"
    hold(ledger, buyer(ledger, 10))
    ledger.pass_time(30 * SECOND)
    assert hold(ledger, user, idempotency_key="new")["idempotency_key"] == "new"
    assert refusal(ledger, user).details == {"limit": 3, "retry_after": 10}
    assert ledger.broken() == []


def test_so_many_open_holds(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 1000)
    limits(ledger, max_open_holds=2)
    made = [hold(ledger, user, ttl=ttl * MINUTE) for ttl in (5, 9)]
    refused = refusal(ledger, user)
    assert (refused.message, refused.details) == (
        "Too many holds are open.",
        {"limit": 2, "retry_after": 300},
    )
    ledger.as_service("release_hold", account_id=made[0]["account_id"], hold_id=made[0]["id"])
    made.append(hold(ledger, user))
    refusal(ledger, user)
    ledger.as_service("capture_hold", account_id=made[2]["account_id"], hold_id=made[2]["id"])
    hold(ledger, user)
    # Past its end a hold is open no more, swept or not.
    ledger.pass_time(9 * MINUTE)
    hold(ledger, user)
    refusal(ledger, user)
    assert ledger.broken() == []


def test_none_at_all(own_ledger: Ledger) -> None:
    user = buyer(own_ledger, 10)
    limits(own_ledger, max_open_holds=0)
    assert refusal(own_ledger, user).details["limit"] == 0
    limits(own_ledger, max_open_holds=1, max_holds_per_minute=0)
    assert refusal(own_ledger, user).details == {"limit": 0, "retry_after": 60}


def test_a_refusal_leaves_nothing(own_ledger: Ledger) -> None:
    user = buyer(own_ledger, 10)
    limits(own_ledger, max_open_holds=1)
    hold(own_ledger, user)
    size = (
        "select sum(pg_total_relation_size(c.oid)) from pg_class c "
        "where c.relnamespace in ('public'::regnamespace, 'credits'::regnamespace) and c.relkind = 'r'"
    )
    before = own_ledger.value(size)
    # Not even rows that were undone, which would take room until a vacuum.
    large = {str(number): random.random() for number in range(250)}  # noqa: S311
    for _ in range(50):
        refusal(own_ledger, user, metadata=large, idempotency_key="k")
    assert own_ledger.value(size) == before
    assert holds(own_ledger) == 1


def test_generations_have_their_own_limits(own_ledger: Ledger) -> None:
    """The holds of jobs are neither refused by the limits of holds, nor do they count against them."""
    studio, ledger = Studio(own_ledger), own_ledger
    user, operation = studio.buyer(), studio.operation()
    limits(ledger, max_holds_per_minute=2, max_open_holds=2)
    for _ in range(3):
        assert studio.begin(user, operation)["status"] == "held"
    hold(ledger, user)
    hold(ledger, user)
    refusal(ledger, user)
    assert studio.begin(user, operation)["status"] == "held"


def test_what_ended_unused_goes_after_its_time(own_ledger: Ledger) -> None:
    studio, ledger = Studio(own_ledger), own_ledger
    user, operation = studio.buyer(), studio.operation(cost="1")
    released, captured, _expired = (hold(ledger, user) for _ in range(3))
    ledger.as_service("release_hold", account_id=released["account_id"], hold_id=released["id"])
    ledger.as_service("capture_hold", account_id=captured["account_id"], hold_id=captured["id"])
    jobs = [studio.dispatched(user, operation) for _ in range(2)]
    studio.finish(jobs[0], "failed")
    done = studio.finish(jobs[1], "succeeded", 1)
    canceled = studio.begin(user, operation)["id"]
    ledger.as_user(user, "cancel_generation", job_id=canceled)
    ledger.pass_time(DAY)
    kept = hold(ledger, user, ttl=DAY)
    ledger.rows("select credits.run_maintenance()")
    assert holds(ledger) == 7
    ledger.pass_time(29 * DAY - SECOND)
    ledger.rows("select credits.run_maintenance()")
    # The one that expired was swept a day later; it counts from then.
    assert holds(ledger) == 7
    ledger.pass_time(SECOND)
    ledger.rows("select credits.run_maintenance()")
    left = {str(row["id"]) for row in ledger.rows("select id from public.credit_holds")}
    assert {captured["id"], kept["id"]} <= left
    assert released["id"] not in left
    assert [str(row["id"]) for row in ledger.rows("select id from public.generation_jobs")] == [done["id"]]
    # What the provider took stays known.
    assert ledger.value("select count(*) from credits.usage_logs") == 2
    ledger.pass_time(31 * DAY)
    for _ in range(2):
        ledger.rows("select credits.run_maintenance()")
    ledger.pass_time(31 * DAY)
    ledger.rows("select credits.run_maintenance()")
    statuses = ledger.rows("select status from public.credit_holds")
    assert [row["status"] for row in statuses] == ["captured", "captured"]
    assert ledger.rows("select * from public.maintenance_report()") == []
    assert ledger.broken() == []


def test_pruning_is_bounded(own_ledger: Ledger) -> None:
    user = buyer(own_ledger, 100)
    for _ in range(7):
        made = hold(own_ledger, user)
        own_ledger.as_service("release_hold", account_id=made["account_id"], hold_id=made["id"])
    own_ledger.pass_time(31 * DAY)
    own_ledger.value("select credits.sweep_holds(5)")
    assert holds(own_ledger) == 2


def test_the_newest_unused_holds_are_kept_and_no_more(own_ledger: Ledger) -> None:
    """However long someone goes on, within the limit of a minute."""
    studio, ledger, user = Studio(own_ledger), own_ledger, buyer(own_ledger, 1000)
    limits(ledger, max_unused_holds=5)
    operation = studio.operation(price=1)
    used = hold(ledger, user)
    ledger.as_service("capture_hold", account_id=used["account_id"], hold_id=used["id"])
    asked = studio.dispatched(user, operation)
    studio.finish(asked, "failed")
    for number in range(20):
        hold(ledger, user, ttl=SECOND, idempotency_key=str(number))
        ledger.as_user(user, "cancel_generation", job_id=studio.begin(user, operation)["id"])
        ledger.pass_time(40 * SECOND)
    # Six may be younger than a minute; the capture and the job that asked a provider stay. Of 42.
    assert holds(ledger) <= 2 + 5 + 6
    assert {str(row["id"]) for row in ledger.rows("select id from public.generation_jobs")} >= {asked}
    assert str(used["id"]) in {str(row["id"]) for row in ledger.rows("select id from public.credit_holds")}
    assert ledger.broken() == []


def test_a_hold_writes_none_of_those_that_are_kept(own_ledger: Ledger) -> None:
    """Up to max_unused_holds of them, or each hold of who has many would cost the disk a thousand rows."""
    ledger, user = own_ledger, buyer(own_ledger, 10)
    limits(ledger, max_unused_holds=4)
    for _ in range(6):
        hold(ledger, user, ttl=SECOND)
        ledger.pass_time(SECOND)
    ledger.settle(user)
    ledger.pass_time(MINUTE)
    hold(ledger, user)
    kept = ledger.rows("select xmax::text from public.credit_holds where status = 'expired'")
    assert [row["xmax"] for row in kept] == ["0"] * 4


def test_only_unused_holds_can_be_deleted(own_ledger: Ledger) -> None:
    user = buyer(own_ledger, 10)
    made = [hold(own_ledger, user) for _ in range(3)]
    own_ledger.as_service("capture_hold", account_id=made[0]["account_id"], hold_id=made[0]["id"])
    own_ledger.as_service("release_hold", account_id=made[1]["account_id"], hold_id=made[1]["id"])
    for kept in (made[0], made[2]):
        with pytest.raises(Refused, match="append-only"):
            own_ledger.rows("delete from public.credit_holds where id = %s", kept["id"])
    own_ledger.rows("delete from public.credit_holds where id = %s", made[1]["id"])
    assert own_ledger.broken() == []


def test_a_client_gets_429_and_is_told_how_long_to_wait(service: Client, user: Callable[..., User]) -> None:
    buyer = user()
    service.rpc("grant_credits", {"user_id": buyer.id, "amount": 1000, "source": "promo"}).execute()
    request = {"operation": "stable_diffusion", "ttl": "1 second"}
    first: Any = buyer.client.rpc("hold_credits", {**request, "idempotency_key": "first"}).execute().data
    with pytest.raises(PostgrestAPIError) as caught:
        for _ in range(60):
            buyer.client.rpc("hold_credits", request).execute()
    assert caught.value.code == "PT429"
    details = json.loads(caught.value.details or "")
    assert details["limit"] == 60
    assert 1 <= details["retry_after"] <= 60
    again: Any = buyer.client.rpc("hold_credits", {**request, "idempotency_key": "first"}).execute().data
    assert again["id"] == first["id"]
    mine = buyer.client.table("credit_holds").select("id").execute().data
    assert len(mine) == 60
