"""Expiry: from its moment on nobody can spend or read expired credits, settled or not."""

from datetime import timedelta

import pytest

from tests.support.clock import MINUTE
from tests.support.ledger import Ledger, Refused, lot


def test_nobody_reads_or_spends_expired_credits(ledger: Ledger) -> None:
    user = ledger.sign_up()
    lot(ledger, user, 10, 5 * MINUTE)
    lot(ledger, user, 3, 9 * MINUTE)
    ledger.as_user(user, "consume_credits", operation="one", quantity=4)
    ledger.pass_time(5 * MINUTE - timedelta(microseconds=1))
    assert ledger.as_user(user, "my_credits")["balance"] == 9
    ledger.pass_time(timedelta(microseconds=1))

    # Not settled: the stored row still counts them, so its owner does not see it.
    assert ledger.account(user)["balance"] == 9
    assert ledger.read_as_user(user, "select count(*) from public.credit_accounts") == 0
    mine = ledger.as_user(user, "my_credits")
    assert (mine["balance"], mine["available"], mine["totals"]["expired"]) == (3, 3, 6)
    assert [x["credits"] for x in mine["expiring_next"]] == [3]
    assert ledger.read_as_user(user, "select balance from public.user_credits") == 3
    assert ledger.as_user(user, "quote_credits", operation="one", quantity=4)["affordable"] is False
    for function in ("consume_credits", "hold_credits"):
        with pytest.raises(Refused) as caught:
            ledger.as_user(user, function, operation="one", quantity=4)
        assert caught.value.details == {"required": 4, "available": 3, "shortfall": 1}

    assert ledger.as_user(user, "consume_credits", operation="one", quantity=3)["balance_after"] == 0
    assert ledger.read_as_user(user, "select balance from public.credit_accounts") == 0
    assert ledger.broken(user) == []


def test_each_lot_that_expires_is_one_ledger_row(ledger: Ledger) -> None:
    user = ledger.sign_up()
    grants = [lot(ledger, user, size, size * MINUTE) for size in (1, 2, 3)]
    ledger.pass_time(2 * MINUTE)
    ledger.settle(user)
    rows = ledger.rows(
        "select amount, related_id, actor from public.credit_transactions "
        "where kind = 'expiry' and account_id = %s order by id",
        ledger.account(user)["id"],
    )
    assert [(row["amount"], row["related_id"]) for row in rows] == [(-1, grants[0]), (-2, grants[1])]
    assert {row["actor"] for row in rows} == {"system"}
    assert ledger.account(user)["next_expiry"] == ledger.now() + MINUTE
