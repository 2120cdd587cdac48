"""Events that a person decides about: listed, dismissed, and then never tried again."""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.ledger import Ledger, Refused
from tests.support.messages import Message, Sale
from tests.support.till import Till


@pytest.fixture
def own_till(own_ledger: Ledger) -> Till:
    return Till(own_ledger)


def problems(till: Till) -> list[dict[str, Any]]:
    return till.ledger.rows("select * from public.stripe_problems()")


def unreadable(account: str) -> Message:
    message = Sale(account).completed()[0]
    message["data"]["object"]["currency"] = "dollars"
    return message


def test_what_is_put_aside_is_listed_the_oldest_first(own_till: Till) -> None:
    _, account = own_till.buyer()
    bad, foreign = unreadable(account), Sale(account).completed()[0] | {"livemode": True}
    own_till.tell([foreign, bad, *Sale(account).completed(), bad])
    assert [(row["id"], row["type"], row["status"], row["attempts"]) for row in problems(own_till)] == [
        (foreign["id"], foreign["type"], "quarantined", 1),
        (bad["id"], bad["type"], "quarantined", 2),
    ]
    assert all(row["reason"] and row["received_at"] for row in problems(own_till))
    # Also once it can no longer be tried, because its payload is forgotten: until a person has seen it.
    own_till.ledger.rows("update credits.stripe_events set payload = null where id = %s", foreign["id"])
    assert [row["id"] for row in problems(own_till)] == [foreign["id"], bad["id"]]


def test_what_is_dismissed_is_neither_listed_nor_tried_nor_taken_when_it_comes_again(own_till: Till) -> None:
    ledger = own_till.ledger
    user, account = own_till.buyer()
    ledger.rows("update credits.billing_settings set max_grant = 50")
    message = Sale(account).completed()[0]
    assert own_till.tell([message]) == ["failed"]
    done = ledger.as_service("dismiss_stripe_event", event_id=message["id"], why=" A test of ours. ")
    assert (done["id"], done["status"], done["why"]) == (message["id"], "dismissed", "A test of ours.")
    assert done["reason"]
    assert done["dismissed_at"]
    # The cause is gone now, and still it has no effect.
    ledger.rows("update credits.billing_settings set max_grant = 1000")
    ledger.pass_time(timedelta(seconds=1))
    assert problems(own_till) == []
    assert ledger.as_service("retry_stripe_events")["retried"] == 0
    assert own_till.tell([message]) == ["duplicate"]
    assert own_till.balance(user) == 0
    # Said twice, the first word stands.
    assert ledger.as_service("dismiss_stripe_event", event_id=message["id"], why="Another.") == done
    row = ledger.rows("select status, reason, attempts from credits.stripe_events")[0]
    assert (row["status"], row["reason"], row["attempts"]) == ("dismissed", done["reason"], 1)


def test_what_has_had_its_effect_or_needs_none_cannot_be_dismissed(till: Till) -> None:
    user, account = till.buyer()
    applied = Sale(account).completed()[0]
    ignored = applied | {"id": applied["id"] + "x", "data": {"object": {"object": "payout", "id": "po_1"}}}
    assert till.tell([applied, ignored]) == ["applied", "ignored"]
    for message in (applied, ignored):
        with pytest.raises(Refused) as caught:
            till.ledger.as_service("dismiss_stripe_event", event_id=message["id"], why="No.")
        assert (caught.value.code, caught.value.details["event_id"]) == ("PT409", message["id"])
    assert till.balance(user) == 100


@pytest.mark.parametrize(
    ("event_id", "why", "code"),
    [
        ("evt_none", "No.", "PT404"), (None, "No.", "PT404"), ("x" * 5000, "No.", "PT404"),
        ("evt_none", "", "PT400"), ("evt_none", " ", "PT400"), ("evt_none", None, "PT400"),
        ("evt_none", "x" * 1001, "PT400"),
    ],
)  # fmt: skip
def test_what_is_no_event_or_no_reason_is_refused(
    till: Till, event_id: str | None, why: str | None, code: str
) -> None:
    with pytest.raises(Refused) as caught:
        till.ledger.as_service("dismiss_stripe_event", event_id=event_id, why=why)
    assert caught.value.code == code


def test_the_object_of_a_dismissed_event_is_no_problem_to_reconciliation_either(till: Till) -> None:
    user, account = till.buyer()
    message = unreadable(account)
    till.tell([message])
    content = message["data"]["object"]
    assert till.ledger.as_service("ingest_stripe_object", object=content)["status"] == "quarantined"
    till.ledger.as_service("dismiss_stripe_event", event_id=message["id"], why="A test of ours.")
    assert till.ledger.as_service("ingest_stripe_object", object=content) == {
        "status": "ignored",
        "reason": "It was dismissed: A test of ours.",
    }
    # Once it can be read it counts, as it would without the event.
    good = content | {"currency": "usd"}
    assert till.ledger.as_service("ingest_stripe_object", object=good)["status"] == "changed"
    assert till.balance(user) == 100
