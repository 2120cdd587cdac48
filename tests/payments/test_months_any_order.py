"""A year that comes by month, with changes, refunds, disputes and an end: in any order, at once or late."""

import random
from datetime import datetime, timedelta

from tests.support.messages import Contract, Message, Plan, Sale, new_id, stamp
from tests.support.till import YEAR, Till, month_start, yearly_plan

STORIES = 30


def story(
    dice: random.Random, account: str, plan: Plan, others: list[Plan], start: datetime
) -> list[Message]:
    """What is told of one subscription, in its order."""
    sub, payment = Contract(account, plan, start, month=YEAR), new_id("pi")
    told = sub.begin(payment)
    if dice.random() < 0.8:
        changed = sub.change(dice.choice(others), month_start(start, dice.choice([1, 2, 3])))
        told += changed
        paid = {message["type"]: message["data"]["object"] for message in changed}
        if "invoice_payment.paid" in paid and dice.random() < 0.6:
            amount = paid["invoice.paid"]["amount_paid"]
            link = paid["invoice_payment.paid"]["payment"]["payment_intent"]
            told += Sale(account, amount=amount, payment=link).refund(dice.choice([amount, amount // 2]))
    if dice.random() < 0.6:
        sale = Sale(account, amount=plan.unit_amount, payment=payment)
        told += dice.choice(
            [
                sale.refund(plan.unit_amount),
                sale.refund(plan.unit_amount * 5 // 12),
                sale.dispute("needs_response", "won"),
            ]
        )
    if dice.random() < 0.3:
        end = stamp(month_start(start, 4) + timedelta(days=2))
        sub.status = "canceled"
        told.append(sub.subscription("deleted", ended_at=end, canceled_at=end))
    return told


def test_months_in_any_order(year_till: Till) -> None:
    till, start = year_till, year_till.ledger.now()
    plan = yearly_plan(till)
    others = [
        till.plan(allotment, 10 * allotment, interval="year", monthly_allotment=True)
        for allotment in (6000, 600)
    ]
    till.pass_time_until(month_start(start, 5) + timedelta(days=1))
    pairs = []
    late: list[list[Message]] = []
    for seed in range(STORIES):
        pairs.append([till.buyer(), till.buyer()])
        for number, (_, account) in enumerate(pairs[-1]):
            told = story(random.Random(seed), account, plan, others, start)  # noqa: S311 (the same each time)
            refunds = [each for each in told if seed % 2 and each["type"].startswith(("refund", "charge"))]
            told = [each for each in told if each not in refunds]
            if number:
                dice = random.Random(seed)  # noqa: S311
                told *= 2
                dice.shuffle(told)
                dice.shuffle(refunds)
            till.tell(told)
            till.retry()
            late.append(refunds)
    for number in range(5, 12):
        till.pass_time_until(month_start(start, number) + timedelta(days=3))
        if number == 7:
            till.tell(message for refunds in late for message in refunds)
        for seed, pair in enumerate(pairs):
            spent = random.Random(100 * seed + number).choice([0, 50, 90, 300])  # noqa: S311
            for user, _ in pair:
                may = till.ledger.account(user)["frozen_at"] is None
                if may and 0 < spent <= min(sum(till.alive(user).values()), till.balance(user)):
                    till.ledger.as_user(user, "consume_credits", operation="one", quantity=spent)
            one, other = (
                sorted((f"{at:%F %H}", left) for at, left in till.alive(user).items()) for user, _ in pair
            )
            assert one == other, (seed, number)
            assert till.balance(pair[0][0]) == till.balance(pair[1][0]), (seed, number)
    assert till.ledger.broken() == []
