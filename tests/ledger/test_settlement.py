"""Settlement: late or at once, the same comes of it."""

from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from tests.support.clock import MINUTE
from tests.support.ledger import Ledger, buyer, lot, small_batches


@pytest.mark.parametrize("batch", [1000, 3, 1])
def test_settling_once_equals_settling_after_each_step(own_ledger: Ledger, batch: int) -> None:
    """One history lived by two users; one account is settled after each step. In one batch or many."""
    ledger = own_ledger
    small_batches(ledger, batch)
    users = eager, lazy = ledger.sign_up(), ledger.sign_up()
    rows: dict[str, list[Any]] = {user: [] for user in users}

    def both(function: str, **arguments: Any) -> None:
        for user in users:
            rows[user].append(ledger.as_user(user, function, **arguments))
        ledger.settle(eager)

    for life in (4, 9, 30):
        for user in users:
            lot(ledger, user, 20, life * MINUTE, priority=50 - life % 4)
    for step in range(6):
        both("consume_credits", operation="one", quantity=3 + step % 2)
        both("hold_credits", operation="fraction", quantity=9, ttl=5 * MINUTE)
        ledger.pass_time(2 * MINUTE)
        for user in users:
            if step % 2:
                ledger.as_service(
                    "capture_hold",
                    account_id=rows[user][-1]["account_id"],
                    hold_id=rows[user][-1]["id"],
                    quantity=5,
                )
            else:
                ledger.as_service(
                    "refund",
                    account_id=rows[user][-2]["account_id"],
                    transaction_id=rows[user][-2]["id"],
                    amount=2,
                )
        ledger.settle(eager)
    ledger.settle(lazy)

    seen = []
    for user in users:
        account = ledger.account(user)
        worth = [account[name] for name in account if name in ("balance", "held", "lapsed", "next_expiry")]
        lots = [[x["amount"], x["remaining"], x["source"], x["expires_at"]] for x in ledger.lots(user)]
        first = min(x["id"] for x in ledger.lots(user))
        paid = ledger.rows(
            "select dense_rank() over (order by t.id) as place, x.grant_id - %s as lot, x.amount "
            "from public.credit_transactions t join credits.credit_allocations x "
            "on x.account_id = t.account_id and x.transaction_id = t.id "
            "where t.account_id = %s order by place, x.amount",
            first, account["id"],
        )  # fmt: skip
        kinds = ledger.rows(
            "select kind, amount from public.credit_transactions where account_id = %s order by id",
            account["id"],
        )
        usage = ledger.rows(
            "select operation, transactions, quantity, spent, refunded "
            "from credits.daily_usage where account_id = %s "
            "order by day, operation",
            account["id"],
        )
        lots_in_order = {x["lot"]: index for index, x in enumerate(sorted(paid, key=lambda x: x["lot"]))}
        seen.append(
            [worth, lots, [(x["place"], x["amount"]) for x in paid], kinds, usage, len(lots_in_order)]
        )
    assert seen[0] == seen[1]
    assert ledger.broken(eager) == ledger.broken(lazy) == []


def test_spends_wait_for_settlement_and_are_sealed_by_it(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    ledger.settle(user)
    spends = [ledger.as_user(user, "consume_credits", operation="one", quantity=n) for n in (1, 2)]
    account = ledger.account(user)
    assert account["settled_through"] < spends[0]["id"]
    assert account["unsettled_since"] is not None
    assert [x["remaining"] for x in ledger.lots(user)] == [10]
    ledger.settle(user)
    account = ledger.account(user)
    assert (account["settled_through"], account["unsettled_since"]) == (spends[1]["id"], None)
    assert [x["remaining"] for x in ledger.lots(user)] == [7]
    seals = ledger.rows(
        "select number, through_id, entries from credits.ledger_seals where account_id = %s order by number",
        account["id"],
    )
    assert seals[-1]["through_id"] == spends[1]["id"]
    assert sum(seal["entries"] for seal in seals) == 3
    # With nothing new, nothing is written.
    ledger.settle(user)
    assert len(seals) == ledger.value(
        "select count(*) from credits.ledger_seals where account_id = %s", account["id"]
    )


def test_daily_usage_is_rolled_up(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 100)
    spent = ledger.as_user(user, "consume_credits", operation="one", quantity=5)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=5)
    ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"], quantity=2)
    ledger.settle(user)
    ledger.pass_time(timedelta(days=1))
    ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"], amount=4)
    ledger.as_user(user, "consume_credits", operation="fraction", quantity=4)
    ledger.settle(user)
    usage = ledger.rows(
        "select day::text, operation, transactions, quantity, spent, refunded "
        "from credits.daily_usage order by 1, 2"
    )
    assert [list(row.values()) for row in usage] == [
        ["2100-01-01", "one", 2, 7, 7, 0],
        ["2100-01-02", "fraction", 1, 4, 2, 0],
        ["2100-01-02", "one", 0, 0, 0, 4],
    ]


def test_a_seal_covers_a_batch_and_its_hash_is_made_over_the_digests_of_its_rows(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 100)
    small_batches(ledger, 3)
    for number in range(7):
        ledger.as_user(user, "consume_credits", operation="one", metadata={"n": number})
    ledger.settle(user)
    seals = ledger.rows("select * from credits.ledger_seals order by number")
    assert [(seal["number"], seal["entries"]) for seal in seals] == [(1, 3), (2, 3), (3, 2)]
    lines = ledger.rows(
        "select t.id, credits.ledger_line(t, 1::smallint, null) as line, "
        "case when credits.has_text(t) then row(t.idempotency_key, t.metadata)::text end as text "
        "from public.credit_transactions t order by t.id"
    )
    hashed = b""
    for seal in seals:
        batch, lines = lines[: seal["entries"]], lines[seal["entries"] :]
        assert batch[-1]["id"] == seal["through_id"]
        digests = b"".join(sha256(sealed_line(seal, row).encode()).digest() for row in batch)
        hashed = sha256(hashed + digests).digest()
        assert seal["hash"] == hashed
    assert ledger.broken() == []


def sealed_line(seal: dict[str, Any], row: dict[str, Any]) -> str:
    """A row's line with the digest of its text, as anyone can make it who has the seal's salt."""
    if row["text"] is None:
        return str(row["line"])
    salt = sha256(seal["salt"].bytes + row["id"].to_bytes(8, "big")).digest()
    return f"{row['line']} text={sha256(salt + row['text'].encode()).hexdigest()}"


def test_many_expiries_are_sealed_in_batches_too(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, own_ledger.sign_up()
    for _ in range(8):
        lot(ledger, user, 1, MINUTE)
    small_batches(ledger, 3)
    ledger.pass_time(MINUTE)
    ledger.settle(user)
    assert ledger.account(user)["balance"] == 0
    entries = ledger.rows("select entries from credits.ledger_seals order by number")
    assert max(row["entries"] for row in entries[1:]) <= 3
    account = ledger.account(user)
    assert account["settled_through"] == account["last_entry"] == 16
    assert ledger.broken() == []


def payments(ledger: Ledger, user: str) -> list[list[int]]:
    """Number, lot, first and last row, what was paid of each, of each row of lot_payments."""
    return [
        list(row.values())
        for row in ledger.rows(
            "select number, grant_id, first_id, last_id, first_amount, last_amount from credits.lot_payments "
            "where account_id = %s order by number",
            ledger.account(user)["id"],
        )
    ]


def paid_for(ledger: Ledger, user: str, transaction: int) -> list[tuple[int, int]]:
    """Which lot paid how much for a transaction."""
    return [
        (row["grant_id"], row["amount"])
        for row in ledger.rows(
            "select grant_id, amount from credits.credit_allocations "
            "where account_id = %s and transaction_id = %s order by number",
            ledger.account(user)["id"],
            transaction,
        )
    ]


def test_a_lot_that_goes_on_paying_has_one_row(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, own_ledger.sign_up()
    for amount in (10, 20):
        ledger.as_service("grant_credits", user_id=user, amount=amount, source="purchase")
    spends = []

    def spend(quantity: int) -> None:
        spends.append(ledger.as_user(user, "consume_credits", operation="one", quantity=quantity)["id"])

    for quantity in (2, 3, 4):
        spend(quantity)
        ledger.settle(user)
    assert payments(ledger, user) == [[1, 1, 3, 5, 2, 4]]
    # What is given back stands apart, and the lot goes on.
    account = ledger.account(user)["id"]
    ledger.as_service("refund", account_id=account, transaction_id=spends[1], amount=2)
    for quantity in (1, 5, 6):
        spend(quantity)
    ledger.settle(user)
    assert payments(ledger, user) == [[1, 1, 3, 8, 2, 2], [2, 2, 8, 9, 3, 6]]
    assert [paid_for(ledger, user, spend) for spend in spends] == [
        [(1, 2)], [(1, 3)], [(1, 4)], [(1, 1)], [(1, 2), (2, 3)], [(2, 6)],
    ]  # fmt: skip
    assert paid_for(ledger, user, 6) == [(1, -2)]
    assert ledger.broken() == []


def test_a_debt_that_is_paid_after_an_expiry_is_told_apart(own_ledger: Ledger) -> None:
    """A capture that a clawback left without credits waits, while a lot expires that it could not use."""
    ledger, user = own_ledger, own_ledger.sign_up()
    lot(ledger, user, 10, MINUTE)
    first = ledger.as_user(user, "hold_credits", operation="one", quantity=10, ttl=10 * MINUTE)
    ledger.pass_time(2 * MINUTE)
    grant = ledger.as_service("grant_credits", user_id=user, amount=5, source="purchase")
    second = ledger.as_user(user, "hold_credits", operation="one", quantity=5, ttl=10 * MINUTE)
    ledger.claw_back(user, 5, grant["id"])
    account = ledger.account(user)["id"]
    owed = ledger.as_service("capture_hold", account_id=account, hold_id=second["id"])["id"]
    ledger.as_service("release_hold", account_id=account, hold_id=first["id"])
    assert ledger.account(user)["balance"] == -5
    assert [row[1:4] for row in payments(ledger, user)] == [[2, 3, 3], [1, 5, 5]]
    assert (ledger.account(user)["debt_from"], owed) == (4, 4)
    assert ledger.broken() == []
    ledger.as_service("grant_credits", user_id=user, amount=8, source="purchase")
    spent = ledger.as_user(user, "consume_credits", operation="one", quantity=2)["id"]
    ledger.settle(user)
    assert paid_for(ledger, user, owed) == [(3, 5)]
    assert paid_for(ledger, user, 5) == [(1, 10)]
    assert paid_for(ledger, user, spent) == [(3, 2)]
    assert ledger.account(user)["debt_from"] is None
    assert ledger.broken() == []


@pytest.mark.parametrize("batch", [1000, 2])
def test_many_accounts_settled_together_are_as_each_by_itself(own_ledger: Ledger, batch: int) -> None:
    ledger = own_ledger
    small_batches(ledger, batch)
    alone, together = ([ledger.sign_up() for _ in range(6)] for _ in range(2))
    for users in (alone, together):
        for number, user in enumerate(users):
            for part in range(number % 3 + 1):
                ledger.as_service("grant_credits", user_id=user, amount=4 + part, source="purchase")
            lot(ledger, user, 3, MINUTE)
            for quantity in range(1, number % 4 + 1):
                ledger.as_user(user, "consume_credits", operation="one", quantity=quantity)
            if number == 5:
                ledger.claw_back(user, 30)
    ledger.pass_time(2 * MINUTE)
    for user in alone:
        ledger.settle(user)
    while ledger.value("select credits.run_maintenance()")["more"]:
        pass
    for one, other in zip(alone, together, strict=True):
        assert payments(ledger, one) == payments(ledger, other)
        lots = [[(x["remaining"], x["expires_at"]) for x in ledger.lots(user)] for user in (one, other)]
        assert lots[0] == lots[1]
        worth = [
            [ledger.account(user)[name] for name in ("balance", "debt_from", "settled_through", "last_entry")]
            for user in (one, other)
        ]
        assert worth[0] == worth[1]
    assert ledger.broken() == []
