"""Refunds: back to the lots they came from, never more than was spent."""

from datetime import timedelta

import pytest

from tests.support.clock import MINUTE
from tests.support.ledger import Ledger, Refused, buyer, lot


def test_a_refund_fills_the_lot_that_burned_last_first(ledger: Ledger) -> None:
    user = ledger.sign_up()
    for size in (4, 4, 4):
        ledger.as_service("grant_credits", user_id=user, amount=size, source="purchase")
    spent = ledger.as_user(user, "consume_credits", operation="one", quantity=11)
    for amount, remaining in ((5, [0, 2, 4]), (3, [1, 4, 4]), (None, [4, 4, 4])):
        row = ledger.as_service(
            "refund",
            account_id=spent["account_id"],
            transaction_id=spent["id"],
            amount=amount,
            reason="bad picture",
        )
        ledger.settle(user)
        assert [x["remaining"] for x in ledger.lots(user)] == remaining
        assert (row["related_id"], row["operation"], row["metadata"]) == (
            spent["id"],
            "one",
            {"reason": "bad picture"},
        )
    with pytest.raises(Refused) as caught:
        ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"], amount=1)
    assert caught.value.code == "PT409"
    assert ledger.broken(user) == []


def test_credits_of_an_expired_lot_live_on_for_the_grace(ledger: Ledger) -> None:
    user = ledger.sign_up()
    lot(ledger, user, 10, 5 * MINUTE, priority=7)
    spent = ledger.as_user(user, "consume_credits", operation="one", quantity=6)
    ledger.pass_time(10 * MINUTE)
    refunded = ledger.as_service(
        "refund", account_id=spent["account_id"], transaction_id=spent["id"], amount=5
    )
    lots = ledger.lots(user)
    assert [x["remaining"] for x in lots] == [0, 5]
    assert (lots[1]["source"], lots[1]["priority"], lots[1]["transaction_id"]) == (
        "refund",
        7,
        refunded["id"],
    )
    assert lots[1]["expires_at"] == ledger.now() + timedelta(days=30)
    assert lots[1]["returned_from"] == lots[0]["id"]
    ledger.pass_time(timedelta(days=30))
    assert ledger.as_user(user, "my_credits")["balance"] == 0
    # What is left to refund is refunded to a third lot.
    assert (
        ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"])["amount"] == 1
    )
    assert ledger.as_user(user, "my_credits")["balance"] == 1
    assert ledger.broken(user) == []


def test_a_capture_can_be_refunded(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=8)
    capture = ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"], quantity=6)
    assert (
        ledger.as_service("refund", account_id=capture["account_id"], transaction_id=capture["id"])["amount"]
        == 6
    )
    assert ledger.account(user)["balance"] == 10


def test_a_refund_goes_to_the_lot_that_a_capture_took_last(ledger: Ledger) -> None:
    """A capture takes what its hold kept from expiring before it takes what is alive, whatever the
    priorities.
    """
    user = ledger.sign_up()
    lot(ledger, user, 4, 2 * MINUTE, priority=90)
    lot(ledger, user, 10, timedelta(days=9), priority=0)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=6)
    ledger.pass_time(3 * MINUTE)
    capture = ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"])
    ledger.as_service("refund", account_id=capture["account_id"], transaction_id=capture["id"], amount=2)
    assert [x["remaining"] for x in ledger.lots(user)] == [0, 10]
    assert ledger.broken(user) == []
