"""Messages that come when their time is over: the result is what it would have been in time, but for the
newest period, whose credits live for billing_settings.late_grant_grace.
"""

import random
from datetime import timedelta
from typing import Any

import pytest

from tests.support.ledger import Ledger
from tests.support.messages import Contract, Message, Plan, Sale, new_id
from tests.support.till import Till

GRACE = timedelta(days=30)


def contract(till: Till, **columns: Any) -> tuple[str, Contract]:
    user, account = till.buyer()
    return user, Contract(account, till.plan(500, 4000, **columns), till.ledger.now())


def orders(messages: list[Message]) -> list[list[Message]]:
    """In order, backwards, and shuffled with repeats."""
    dice = random.Random(len(messages))  # noqa: S311 (the same each time)
    shuffled = messages * 2
    dice.shuffle(shuffled)
    return [messages, messages[::-1], shuffled]


@pytest.mark.parametrize("order", [0, 1, 2])
def test_past_periods_expire_at_once_and_the_newest_lives_for_the_grace(till: Till, order: int) -> None:
    user, sub = contract(till)
    messages = sub.begin() + [message for _ in range(10) for message in sub.renew()] + sub.cancel()
    sub.account = str(till.ledger.account(user)["id"])
    now = till.ledger.pass_time(sub.end - till.ledger.now() + timedelta(days=3))
    till.tell(orders(messages)[order])
    assert till.alive(user) == {now + GRACE: 500}
    assert till.ledger.account(user)["lifetime_expired"] == 10 * 500
    assert till.ledger.broken(user) == []
    till.ledger.pass_time(GRACE)
    assert till.alive(user) == {}


@pytest.mark.parametrize("order", [0, 1, 2])
def test_with_a_period_that_goes_on_no_past_one_lives(till: Till, order: int) -> None:
    user, sub = contract(till, rollover="30 days", rollover_cap=100)
    messages = sub.begin() + [message for _ in range(10) for message in sub.renew()]
    till.ledger.pass_time(sub.start - till.ledger.now() + timedelta(days=1))
    till.tell(orders(messages)[order])
    # The current period, and what of the one before rolls over.
    assert till.alive(user) == {sub.end: 100 + 400, sub.end + sub.month: 100}
    assert till.balance(user) == 600
    assert till.ledger.broken(user) == []


def story(till: Till, sub: Contract, small: Plan) -> list[tuple[timedelta, list[Message]]]:
    """Four months with an upgrade, a downgrade and refunds: when it happens, and what is told."""
    big, payment = sub.plan, new_id("pi")
    start = sub.start
    steps = [(timedelta(0), sub.begin(payment))]
    steps.append((timedelta(days=10), sub.change(small, start + timedelta(days=15))))
    steps.append((timedelta(days=20), Sale(sub.account, amount=4000, payment=payment).refund(1000)))
    steps.append((timedelta(days=30), sub.renew()))
    steps.append((timedelta(days=40), sub.change(big, sub.start + timedelta(days=15))))
    renewal = sub.renew()
    payment = renewal[-1]["data"]["object"]["payment"]["payment_intent"]
    steps.append((timedelta(days=60), renewal))
    steps.append((timedelta(days=65), Sale(sub.account, amount=4000, payment=payment).refund(4000)))
    steps.append((timedelta(days=90), sub.renew()))
    return steps


# What a refund takes below zero is paid by the next grant that comes, so there the order counts.
@pytest.mark.parametrize(("order", "spent"), [(0, 0), (1, 0), (2, 0), (0, 450)])
def test_a_story_told_late_ends_as_in_time(till: Till, order: int, spent: int) -> None:
    """The first message comes in time; what is spent of it, is spent."""
    endings = []
    for late in (False, True):
        user, sub = contract(till)
        steps = story(till, sub, till.plan(100, 1000))
        begun = till.ledger.now()
        till.tell(steps[0][1])
        till.ledger.as_user(user, "consume_credits", operation="one", quantity=spent) if spent else None
        if not late:
            for at, messages in steps[1:]:
                till.ledger.pass_time(begun + at - till.ledger.now())
                till.tell(messages)
        else:
            till.ledger.pass_time(timedelta(days=90))
            till.tell(orders([message for _, messages in steps[1:] for message in messages])[order])
        owed = till.ledger.value(
            "select sum(owed) from credits.subscription_debts where subscription_id = %s", sub.id
        )
        left = {str(at - begun): n for at, n in till.alive(user).items()}
        endings.append((till.balance(user), left, owed))
        assert till.ledger.broken(user) == []
    assert endings[0] == endings[1]


def test_what_was_spent_of_a_late_period_stays_spent_when_a_newer_one_comes(till: Till) -> None:
    user, sub = contract(till)
    first, second = sub.begin(), sub.renew()
    till.ledger.pass_time(sub.end - till.ledger.now())
    till.tell(first)
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=200)
    held = till.ledger.as_user(user, "hold_credits", operation="one", quantity=100)
    till.tell(second * 2)
    # What a hold needs stays for it.
    assert (till.balance(user), till.ledger.account(user)["available"]) == (600, 500)
    assert till.ledger.broken(user) == []
    till.ledger.as_service("capture_hold", account_id=held["account_id"], hold_id=held["id"])
    assert till.balance(user) == 500
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize(("grace", "left"), [("0", 0), ("1 day", 500)])
def test_the_grace_is_a_setting(own_ledger: Ledger, grace: str, left: int) -> None:
    till = Till(own_ledger)
    own_ledger.rows("update credits.billing_settings set late_grant_grace = %s", grace)
    user, sub = contract(till)
    now = till.ledger.pass_time(sub.month)
    till.tell(sub.begin())
    assert till.alive(user) == ({now + timedelta(days=1): left} if left else {})
    assert till.ledger.broken(user) == []
