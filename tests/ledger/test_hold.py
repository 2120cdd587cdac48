"""Holds: pinned prices, partial captures, ends, and what they keep from expiring."""

from datetime import datetime, timedelta

import pytest

from tests.support.clock import MINUTE
from tests.support.ledger import Ledger, Refused, buyer, lot


def test_a_hold_pins_the_price(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 100)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=10)
    ledger.rows("update public.pricing_tiers set credits_per_unit = 7 where operation = 'one'")
    assert ledger.as_user(user, "quote_credits", operation="one")["credits"] == 7
    capture = ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"], quantity=4)
    assert (capture["amount"], capture["unit_price"], capture["price_version"]) == (
        -4,
        1,
        hold["price_version"],
    )
    assert ledger.broken() == []


def test_what_is_not_captured_is_free_again(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    hold = ledger.as_user(user, "hold_credits", operation="fraction", quantity=20)
    assert hold["amount"] == 6
    capture = ledger.as_service(
        "capture_hold", account_id=hold["account_id"], hold_id=hold["id"], quantity=7, metadata={"images": 7}
    )
    assert (capture["amount"], capture["balance_after"], capture["hold_id"]) == (-3, 7, hold["id"])
    assert capture["metadata"] == {"images": 7}
    account = ledger.account(user)
    assert (account["balance"], account["held"]) == (7, 0)


def test_capture_and_release_are_idempotent_by_hold(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    used, unused = (ledger.as_user(user, "hold_credits", operation="one", quantity=2) for _ in range(2))
    first = ledger.as_service("capture_hold", account_id=used["account_id"], hold_id=used["id"])
    assert ledger.as_service("capture_hold", account_id=used["account_id"], hold_id=used["id"]) == first
    assert (
        ledger.as_service("capture_hold", account_id=used["account_id"], hold_id=used["id"], quantity=2)
        == first
    )
    released = ledger.as_service(
        "release_hold", account_id=unused["account_id"], hold_id=unused["id"], reason="the provider failed"
    )
    assert (
        ledger.as_service(
            "release_hold", account_id=unused["account_id"], hold_id=unused["id"], reason="another"
        )
        == released
    )
    assert (released["status"], released["release_reason"]) == ("released", "the provider failed")
    assert (ledger.account(user)["balance"], ledger.account(user)["held"]) == (8, 0)


def test_a_hold_ends_at_its_time(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=10, ttl=5 * MINUTE)
    ledger.pass_time(5 * MINUTE - timedelta(microseconds=1))
    assert ledger.as_user(user, "my_credits")["held"] == 10
    ledger.pass_time(timedelta(microseconds=1))
    # Nobody has swept it yet, but nobody is told of it either.
    assert ledger.as_user(user, "my_credits")["held"] == 0
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"])
        assert (caught.value.code, caught.value.details["status"]) == ("PT409", "expired")
    assert (
        ledger.as_service("release_hold", account_id=hold["account_id"], hold_id=hold["id"])["status"]
        == "expired"
    )
    assert ledger.as_user(user, "consume_credits", operation="one", quantity=10)["balance_after"] == 0
    assert ledger.broken(user) == []


def test_the_usual_time_to_live_is_15_minutes(ledger: Ledger) -> None:
    hold = ledger.as_user(buyer(ledger, 1), "hold_credits", operation="one")
    ends, began = (datetime.fromisoformat(hold[name]) for name in ("expires_at", "created_at"))
    assert ends - began == 15 * MINUTE


def test_a_hold_keeps_credits_from_expiring_until_it_ends(ledger: Ledger) -> None:
    user = ledger.sign_up()
    lot(ledger, user, 10, 5 * MINUTE)
    holds = [
        ledger.as_user(user, "hold_credits", operation="one", quantity=3, ttl=20 * MINUTE) for _ in range(2)
    ]
    ledger.pass_time(6 * MINUTE)
    mine = ledger.as_user(user, "my_credits")
    assert (mine["balance"], mine["held"], mine["available"], mine["totals"]["expired"]) == (6, 6, 0, 4)
    with pytest.raises(Refused, match="PT402"):
        ledger.as_user(user, "consume_credits", operation="one")
    assert (
        ledger.as_service(
            "capture_hold", account_id=holds[0]["account_id"], hold_id=holds[0]["id"], quantity=2
        )["balance_after"]
        == 4
    )
    # The one credit that the capture left has expired by now.
    assert ledger.as_user(user, "my_credits")["balance"] == 3
    ledger.as_service("release_hold", account_id=holds[1]["account_id"], hold_id=holds[1]["id"])
    mine = ledger.as_user(user, "my_credits")
    assert (mine["balance"], mine["totals"]["expired"]) == (0, 8)
    assert ledger.broken(user) == []


def test_a_capture_takes_what_expired_first_and_leaves_a_later_hold_its_own(ledger: Ledger) -> None:
    """The lot that would burn first expired second, and a hold made in between rests on it."""
    user = ledger.sign_up()
    lot(ledger, user, 10, 2 * MINUTE, priority=50)
    lot(ledger, user, 10, 4 * MINUTE, priority=0)
    early = ledger.as_user(user, "hold_credits", operation="one", quantity=10)
    ledger.pass_time(3 * MINUTE)
    later = ledger.as_user(user, "hold_credits", operation="one", quantity=10)
    ledger.pass_time(3 * MINUTE)
    ledger.as_service("capture_hold", account_id=early["account_id"], hold_id=early["id"])
    assert ledger.as_user(user, "my_credits")["balance"] == 10
    ledger.as_service("capture_hold", account_id=later["account_id"], hold_id=later["id"])
    assert ledger.as_user(user, "my_credits")["balance"] == 0
    assert ledger.broken(user) == []
