"""Whatever the order and the number of the messages, one purchase or one subscription's year ends in the same
ledger.
"""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ledger import Ledger
from tests.support.messages import Contract, Message, Plan, Sale
from tests.support.stack import Database
from tests.support.till import EXAMPLES, Till

STEPS: list[Callable[[Sale], list[Message]]] = [
    lambda sale: sale.refund(100),
    lambda sale: sale.refund(333, "pending", "succeeded"),
    lambda sale: sale.refund(450, "pending", "failed"),
    lambda sale: sale.refund(200, "pending", "succeeded", "failed", told_by_charge=False),
    lambda sale: sale.dispute("needs_response", "under_review", "won"),
    lambda sale: sale.dispute("needs_response", "lost", amount=400),
    lambda sale: sale.dispute("warning_needs_response", "warning_closed"),
    lambda sale: sale.dispute("warning_needs_response", "needs_response", "won", amount=600),
    lambda sale: sale.dispute("needs_response", "prevented", amount=500),
    lambda sale: sale.dispute("warning_needs_response", "prevented", amount=500, takes_money=False),
    lambda sale: sale.expired(),
]


def ending(till: Till, user: str) -> dict[str, Any]:
    """What must not depend on the order: balance, freeze, lots by expiry, purchases, subscriptions."""
    till.ledger.settle(user)
    account = till.ledger.account(user)
    lots: dict[str, int] = {}
    for lot in till.ledger.lots(user):
        lots[str(lot["expires_at"])] = lots.get(str(lot["expires_at"]), 0) + lot["remaining"]
    columns = (
        "status, amount, currency, credits, credits_granted, credits_clawed_back, refunded_amount, "
        "disputed_amount"
    )
    return {
        "balance": account["balance"],
        "available": account["available"],
        "frozen": account["frozen_reason"],
        "lots": {expiry: left for expiry, left in lots.items() if left},
        "purchases": sorted(
            str(row)
            for row in till.ledger.rows(
                f"select {columns} from public.purchases where account_id = %s", account["id"]
            )
        ),
        "subscriptions": till.ledger.rows(
            "select plan, status, current_period_end from public.subscriptions where account_id = %s",
            account["id"],
        ),
        "owed": till.ledger.value(
            "select sum(owed) from credits.subscription_debts where account_id = %s", account["id"]
        ),
        "broken": till.ledger.broken(user),
    }


@EXAMPLES
@given(
    steps=st.lists(st.sampled_from(STEPS), max_size=5),
    slow=st.booleans(),
    amount=st.sampled_from([1000, 999, 7]),
    seed=st.randoms(use_true_random=False),
)
def test_one_purchase(
    till: Till, steps: list[Callable[[Sale], list[Message]]], slow: bool, amount: int, seed: random.Random
) -> None:
    endings = []
    for shuffled in (False, True):
        user, account = till.buyer()
        sale = Sale(account, amount=amount)
        messages = [*sale.completed("unpaid"), *sale.paid_late()] if slow else sale.completed()
        for step in steps:
            messages += step(sale)
        if shuffled:
            messages *= 3
            seed.shuffle(messages)
        till.tell(messages)
        endings.append(ending(till, user))
    assert endings[0] == endings[1]
    assert endings[0]["broken"] == []


def year(till: Till, small: Plan, big: Plan, failures: int, down: bool) -> tuple[str, list[Message]]:
    """Trial, upgrade, a failure and its recovery, pause and resumption, perhaps a downgrade, cancellation."""
    user, account = till.buyer()
    sub = Contract(account, small, till.ledger.now())
    messages = sub.begin(trial=True)
    for month in range(12):
        messages += sub.renew(failures=failures if month == 4 else 0)
        if month == 1:
            bill = next(message for message in messages[::-1] if message["type"] == "invoice_payment.paid")
            payment = bill["data"]["object"]["payment"]["payment_intent"]
            messages += Sale(account, amount=1000, payment=payment).refund(300, "pending", "succeeded")
        if month == 2:
            messages += sub.change(big, sub.start + timedelta(days=10))
        if month == 6:
            messages.append(sub.subscription("updated", pause_collection={"behavior": "void"}))
        if month == 7:
            messages.append(sub.subscription("updated", pause_collection=None))
        if month == 8 and down:
            messages += sub.change(small, sub.start + timedelta(days=21))
    return user, messages + sub.cancel()


@settings(parent=EXAMPLES, max_examples=8)
@given(failures=st.integers(0, 3), down=st.booleans(), seed=st.randoms(use_true_random=False))
def test_a_subscriptions_year(till: Till, failures: int, down: bool, seed: random.Random) -> None:
    small, big = till.plan(100, 1000, rollover="30 days", rollover_cap=40), till.plan(500, 4000)
    endings = []
    for shuffled in (False, True):
        user, messages = year(till, small, big, failures, down)
        if shuffled:
            messages += seed.choices(messages, k=20)
            seed.shuffle(messages)
        till.tell(messages)
        endings.append(ending(till, user))
    assert endings[0] == endings[1]
    assert endings[0]["broken"] == []
    assert endings[0]["subscriptions"][0]["status"] == "canceled"


def test_three_times_each_from_eight_connections_at_once(own_db: Database) -> None:
    connections = [Ledger(psycopg.connect(own_db.url, autocommit=True)) for _ in range(8)]
    tills = [Till(ledger) for ledger in connections]
    dice = random.Random(8)  # noqa: S311 (the same each time)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(6):
            user, account = tills[0].buyer()
            sale = Sale(account)
            messages = [
                *sale.completed("unpaid"),
                *sale.paid_late(),
                *sale.refund(250),
                *sale.refund(300, "pending", "succeeded"),
                *sale.refund(100, "pending", "failed", told_by_charge=False),
                *sale.dispute("needs_response", "under_review", "won"),
            ]
            told = messages * 3
            dice.shuffle(told)
            list(pool.map(lambda pair: tills[pair[0] % 8].ingest(pair[1]), enumerate(told)))
            found = ending(tills[0], user)
            assert (found["balance"], found["frozen"], found["broken"]) == (45, None, [])
            assert found["lots"] == {"None": 45}
            small, big = tills[0].plan(100, 1000), tills[0].plan(500, 4000)
            user, told = year(tills[0], small, big, failures=2, down=False)
            told = [*told, *told]
            dice.shuffle(told)
            list(pool.map(lambda pair: tills[pair[0] % 8].ingest(pair[1]), enumerate(told)))
            found = ending(tills[0], user)
            assert found["broken"] == []
            # The trial, three small months, a refund, an upgrade after a third of one, nine big months.
            assert found["balance"] == 100 + 3 * 100 - 30 + 267 + 9 * 500
    for ledger in connections:
        ledger.connection.close()
