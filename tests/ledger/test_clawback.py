"""Clawbacks: the only way below zero, and how the debt is paid."""

import pytest

from tests.support.clock import MINUTE
from tests.support.ledger import Ledger, Refused, buyer, lot


def remaining(ledger: Ledger, user: str) -> list[int]:
    ledger.settle(user)
    return [row["remaining"] for row in ledger.lots(user)]


def test_the_named_grants_lot_pays_first(ledger: Ledger) -> None:
    user = ledger.sign_up()
    rows = [ledger.as_service("grant_credits", user_id=user, amount=10, source="purchase") for _ in range(3)]
    ledger.claw_back(user, 12, rows[1]["id"])
    assert remaining(ledger, user) == [8, 0, 10]
    ledger.claw_back(user, 1)
    assert remaining(ledger, user) == [7, 0, 10]
    assert ledger.broken(user) == []


def test_the_next_grant_pays_the_debt(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    ledger.as_user(user, "consume_credits", operation="one", quantity=8)
    assert ledger.claw_back(user, 10)["balance_after"] == -8
    quote = ledger.as_user(user, "quote_credits", operation="one")
    assert (quote["available"], quote["affordable"]) == (-8, False)
    with pytest.raises(Refused) as caught:
        ledger.as_user(user, "consume_credits", operation="one")
    assert caught.value.details == {"required": 1, "available": -8, "shortfall": 9}
    for amount, balance in ((5, -3), (5, 2)):
        row = ledger.as_service("grant_credits", user_id=user, amount=amount, source="purchase")
        assert row["balance_after"] == balance
    assert remaining(ledger, user) == [0, 0, 2]
    assert ledger.broken(user) == []


def test_a_refund_pays_the_debt_from_a_lot_that_paid_some_of_it(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    spent = ledger.as_user(user, "consume_credits", operation="one", quantity=3)
    ledger.claw_back(user, 10)
    assert (
        ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"])[
            "balance_after"
        ]
        == 0
    )
    assert remaining(ledger, user) == [0]
    assert ledger.broken(user) == []


def test_what_was_captured_on_credit_is_refunded_in_parts(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=10)
    ledger.claw_back(user, 10)
    capture = ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"])
    assert capture["balance_after"] == -10
    for amount, balance in ((4, -6), (6, 0)):
        row = ledger.as_service(
            "refund", account_id=capture["account_id"], transaction_id=capture["id"], amount=amount
        )
        assert row["balance_after"] == balance
    assert ledger.broken(user) == []


def test_a_hold_on_credits_that_were_clawed_back_can_end(ledger: Ledger) -> None:
    """The clawback takes what a later hold rests on; then the earlier hold's credits expire."""
    user = ledger.sign_up()
    lot(ledger, user, 10, 2 * MINUTE)
    named = ledger.as_service("grant_credits", user_id=user, amount=10, source="purchase")
    early = ledger.as_user(user, "hold_credits", operation="one", quantity=10)
    ledger.pass_time(3 * MINUTE)
    ledger.as_user(user, "hold_credits", operation="one", quantity=10)
    ledger.claw_back(user, 10, named["id"])
    ledger.as_service("release_hold", account_id=early["account_id"], hold_id=early["id"])
    mine = ledger.as_user(user, "my_credits")
    assert (mine["balance"], mine["held"], mine["available"]) == (0, 10, -10)
    ledger.pass_time(20 * MINUTE)
    assert ledger.as_user(user, "my_credits")["available"] == 0
    ledger.settle(user)
    assert ledger.broken(user) == []


def test_clawbacks_that_are_refused(ledger: Ledger) -> None:
    user, other = buyer(ledger, 10), ledger.sign_up()
    # The third: no row of the user has its number.
    for _ in range(3):
        foreign = ledger.as_service("grant_credits", user_id=other, amount=10, source="purchase")
    spent = ledger.as_user(user, "consume_credits", operation="one")
    for amount, grant, code in (
        (0, None, "PT400"), (-1, None, "PT400"), (None, None, "PT400"), (10**12 + 1, None, "PT400"),
        (1, foreign["id"], "PT404"), (1, spent["id"], "PT404"), (1, 2**62, "PT404"),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            ledger.claw_back(user, amount, grant, "key")  # type: ignore[arg-type]
        assert caught.value.code == code
    assert ledger.claw_back(user, 1, None, "key")["balance_after"] == 8
