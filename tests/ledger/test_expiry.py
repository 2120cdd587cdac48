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


def expiries(ledger: Ledger, user: str) -> list[list[object]]:
    """Credits and moment of the expiry rows; all rows of the account rise in time."""
    rows = ledger.rows(
        "select kind, -amount as credits, created_at from public.credit_transactions "
        "where account_id = %s order by id",
        ledger.account(user)["id"],
    )
    moments = [row["created_at"] for row in rows]
    assert moments == sorted(moments)
    return [[row["credits"], row["created_at"]] for row in rows if row["kind"] == "expiry"]


@pytest.mark.parametrize("settled_between", [True, False])
def test_an_expiry_is_dated_when_its_lot_expired(ledger: Ledger, settled_between: bool) -> None:
    """However late it is settled: what comes later is written after it, and dated later."""
    user, start = ledger.sign_up(), ledger.now()
    for size, life in ((3, 3 * MINUTE), (5, 5 * MINUTE), (2, 5 * MINUTE), (9, 99 * MINUTE)):
        lot(ledger, user, size, life)
    ledger.as_user(user, "consume_credits", operation="one")
    for _ in range(3):
        ledger.pass_time(3 * MINUTE)
        if settled_between:
            ledger.settle(user)
    spent = ledger.as_user(user, "consume_credits", operation="one")
    assert spent["balance_after"] == 8
    assert expiries(ledger, user) == [
        [2, start + 3 * MINUTE],
        [5, start + 5 * MINUTE],
        [2, start + 5 * MINUTE],
    ]
    assert ledger.broken(user) == []


@pytest.mark.parametrize("settled_between", [True, False])
def test_what_a_hold_kept_expires_when_the_hold_ends(ledger: Ledger, settled_between: bool) -> None:
    user, start = ledger.sign_up(), ledger.now()
    lot(ledger, user, 10, 2 * MINUTE)
    for size, ttl in ((4, "5 minutes"), (3, "7 minutes")):
        ledger.as_user(user, "hold_credits", operation="one", quantity=size, ttl=ttl)
    for _ in range(5):
        ledger.pass_time(2 * MINUTE)
        if settled_between:
            ledger.settle(user)
    ledger.settle(user)
    dates = [[3, start + 2 * MINUTE], [4, start + 5 * MINUTE], [3, start + 7 * MINUTE]]
    assert expiries(ledger, user) == dates
    ends = ledger.rows(
        "select closed_at from public.credit_holds where account_id = %s order by closed_at",
        ledger.account(user)["id"],
    )
    assert [row["closed_at"] for row in ends] == [start + 5 * MINUTE, start + 7 * MINUTE]
    assert ledger.broken(user) == []


def test_what_a_released_hold_kept_expires_then(ledger: Ledger) -> None:
    user = ledger.sign_up()
    lot(ledger, user, 10, 2 * MINUTE)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=10)
    ledger.pass_time(4 * MINUTE)
    ledger.as_service("release_hold", account_id=hold["account_id"], hold_id=hold["id"])
    assert expiries(ledger, user) == [[10, ledger.now()]]
    assert ledger.broken(user) == []
