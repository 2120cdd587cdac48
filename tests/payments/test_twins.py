"""Two accounts that have bought alike have the same ids for their grants: what becomes of one purchase must
neither touch the other account nor count what happened there.
"""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.ledger import Ledger
from tests.support.messages import Contract, Sale, new_id
from tests.support.till import Till, yearly_plan

TABLES = (
    "public.credit_transactions", "credits.credit_grants", "credits.credit_allocations", "public.purchases",
    "credits.subscription_debts", "credits.allotments", "credits.purchase_grants", "credits.clawbacks",
)  # fmt: skip


def seen(till: Till, account: str) -> dict[str, Any]:
    """Everything of the account's."""
    rows = {
        table: till.ledger.value(
            f"select jsonb_agg(to_jsonb(t) order by to_jsonb(t)::text) from {table} as t "
            "where account_id = %s",
            account,
        )
        for table in TABLES
    }
    return rows | {"account": till.ledger.rows("select * from public.credit_accounts where id = %s", account)}


def test_a_purchase_that_is_refunded_and_not(till: Till) -> None:
    (user, account), (other, others) = till.buyer(), till.buyer()
    sales = [Sale(account), Sale(others)]
    for sale in sales:
        till.tell(sale.completed())
    bought = [till.purchase(checkout_session_id=sale.session) for sale in sales]
    assert [each["id"] for each in bought] == [1, 1]
    grants = till.ledger.rows(
        "select purchase_id, transaction_id from credits.purchase_grants where account_id in (%s, %s)",
        account, others,
    )  # fmt: skip
    assert grants == [{"purchase_id": 1, "transaction_id": 1}] * 2
    till.tell(sales[1].refund(300))
    before = seen(till, others)
    failed = sales[0].refund(500, "succeeded", "failed", told_by_charge=False)
    for message, balance in zip(failed, (50, 100), strict=True):
        till.tell([message])
        assert till.balance(user) == balance
    assert seen(till, others) == before
    before = seen(till, account)
    till.tell(sales[1].refund(700))
    assert till.balance(other) == 0
    assert seen(till, account) == before
    assert till.ledger.broken() == []


def test_what_expired_of_the_other_excuses_nothing(till: Till) -> None:
    """A purchase's lot that has expired unused is not taken a second time; the other's that has not is."""
    (user, account), (other, others) = till.buyer(), till.buyer()
    sales = [Sale(account), Sale(others)]
    for sale in sales:
        till.tell(sale.completed())
    till.ledger.rows("select credits.end_lot(%s, 1)", others)
    till.tell(sales[0].refund(1000))
    assert till.purchase(checkout_session_id=sales[0].session)["credits_clawed_back"] == 100
    till.tell(sales[1].refund(1000))
    assert till.purchase(checkout_session_id=sales[1].session)["credits_clawed_back"] == 0
    assert (till.balance(user), till.balance(other)) == (0, 0)
    assert till.ledger.broken() == []


def test_downgrades(till: Till) -> None:
    plan, small = till.plan(500, 4000), till.plan(100, 1000)
    buyers = [till.buyer() for _ in range(2)]
    subs = [Contract(account, plan, till.ledger.now()) for _, account in buyers]
    for (user, _), sub, spent in zip(buyers, subs, (450, 100), strict=True):
        till.tell(sub.begin())
        till.ledger.as_user(user, "consume_credits", operation="one", quantity=spent)
        till.ledger.settle(user)
    half = subs[0].start + timedelta(days=15)
    before = seen(till, subs[1].account)
    till.tell(subs[0].change(small, half))
    assert till.balance(buyers[0][0]) == 0
    assert seen(till, subs[1].account) == before
    before = seen(till, subs[0].account)
    till.tell(subs[1].change(small, half))
    # 200 too many, all there: nothing that was taken of the other counts, and nothing is owed.
    assert till.balance(buyers[1][0]) == 200
    assert seen(till, subs[0].account) == before
    debts = till.ledger.rows(
        "select owed from credits.subscription_debts where account_id = any(%s) order by owed",
        [sub.account for sub in subs],
    )
    assert debts == [{"owed": 0}, {"owed": 150}]
    # Up again: each gets back what was taken of it.
    for sub in subs:
        till.tell(sub.change(plan, half))
    assert [till.balance(user) for user, _ in buyers] == [50, 400]
    assert till.ledger.broken() == []


def test_months_of_a_year(own_ledger: Ledger) -> None:
    till = Till(own_ledger)
    plan, year = yearly_plan(till), timedelta(days=365)
    buyers, payments = [till.buyer() for _ in range(2)], [new_id("pi") for _ in range(2)]
    subs = [Contract(account, plan, till.ledger.now(), month=year) for _, account in buyers]
    for sub, payment in zip(subs, payments, strict=True):
        till.tell(sub.begin(payment))
    assert [till.balance(user) for user, _ in buyers] == [100, 100]
    before = seen(till, subs[1].account)
    till.tell(Sale(subs[0].account, amount=12000, payment=payments[0]).refund(6000))
    assert till.balance(buyers[0][0]) == 50
    assert seen(till, subs[1].account) == before
    till.tell(Sale(subs[1].account, amount=12000, payment=payments[1]).refund(3000))
    assert [till.balance(user) for user, _ in buyers] == [50, 75]
    assert till.ledger.broken() == []


@pytest.mark.parametrize("which", [0, 1])
def test_credits_that_came_late_end(till: Till, which: int) -> None:
    """A period that was told when it was over ends with the next one; the other account's goes on."""
    plan = till.plan(500, 4000)
    buyers = [till.buyer() for _ in range(2)]
    subs = [Contract(account, plan, till.ledger.now()) for _, account in buyers]
    told = [sub.begin() for sub in subs]
    renewed = subs[which].renew()
    till.ledger.pass_time(timedelta(days=31))
    for messages in told:
        till.tell(messages)
    before = seen(till, subs[1 - which].account)
    till.tell(renewed)
    assert till.balance(buyers[which][0]) == 500
    assert seen(till, subs[1 - which].account) == before
    assert till.balance(buyers[1 - which][0]) == 500
    assert till.ledger.broken() == []
