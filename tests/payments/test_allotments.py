"""A yearly plan whose credits come month by month."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.ledger import Refused
from tests.support.messages import Contract, Sale, new_id, stamp
from tests.support.till import YEAR, Till, month_start, yearly_contract


def test_each_month_brings_its_part_once_and_all_of_them_the_years_credits(year_till: Till) -> None:
    till = year_till
    user, sub = yearly_contract(till, allotment=1000)
    start = sub.start
    told = sub.begin()
    till.tell(told * 2)
    for number in range(12):
        till.pass_time_until(month_start(start, number))
        till.maintain()
        till.tell(message | {"id": new_id("evt")} for message in told)
        # 1,000 in twelve parts; what was not used has expired.
        assert till.alive(user) == {month_start(start, number + 1): 83 if number < 8 else 84}
        assert till.ledger.broken(user) == []
    till.pass_time_until(sub.end)
    till.maintain()
    assert till.alive(user) == {}
    assert till.ledger.account(user)["lifetime_granted"] == 1000
    assert till.purchase(subscription_id=sub.id)["credits_granted"] == 1000
    # The next year begins with its own payment.
    till.tell(sub.renew())
    assert list(till.alive(user).values()) in ([83], [84])


def test_months_roll_over_as_the_plan_says(year_till: Till) -> None:
    user, sub = yearly_contract(year_till, rollover="1 month", rollover_cap=30)
    start = sub.start
    year_till.tell(sub.begin())
    year_till.pass_time_until(month_start(start, 1))
    # February's 100, and 30 of January that live until February ends.
    assert year_till.alive(user) == {month_start(start, 2): 30 + 70, month_start(start, 3): 30}


@pytest.mark.parametrize("quantity", [1, 3])
def test_a_trial_brings_a_month_and_not_a_year(year_till: Till, quantity: int) -> None:
    user, sub = yearly_contract(year_till)
    sub.quantity = quantity
    year_till.tell(sub.begin(trial=True))
    assert year_till.balance(user) == 100


def test_a_refund_stops_it_and_one_that_fails_lets_it_go_on(year_till: Till) -> None:
    till = year_till
    user, sub = yearly_contract(till)
    start, payment = sub.start, new_id("pi")
    till.tell(sub.begin(payment))
    till.pass_time_until(month_start(start, 1))
    pending, failed = Sale(sub.account, amount=12000, payment=payment).refund(
        12000, "pending", "failed", told_by_charge=False
    )
    till.tell([pending])
    assert till.balance(user) == 0
    till.pass_time_until(month_start(start, 2))
    till.pass_time_until(month_start(start, 4))
    assert till.balance(user) == 0
    till.tell([failed])
    # The month that goes on now, and what was taken lives for the grace of refunds.
    assert sorted(till.alive(user).values()) == [100, 100]
    till.pass_time_until(month_start(start, 6))
    assert till.balance(user) == 100
    assert till.ledger.broken(user) == []


def test_a_part_that_is_refunded_takes_its_share_of_each_month(year_till: Till) -> None:
    till = year_till
    user, sub = yearly_contract(till)
    start, payment = sub.start, new_id("pi")
    till.tell(sub.begin(payment))
    till.pass_time_until(month_start(start, 3))
    till.tell(Sale(sub.account, amount=12000, payment=payment).refund(6000))
    for number in (3, 4, 5):
        till.pass_time_until(month_start(start, number))
        assert till.balance(user) == 50
    assert till.ledger.broken(user) == []


def test_a_dispute_stops_it_until_it_is_won(year_till: Till) -> None:
    till = year_till
    user, sub = yearly_contract(till)
    start, payment = sub.start, new_id("pi")
    till.tell(sub.begin(payment))
    told = Sale(sub.account, amount=12000, payment=payment).dispute("needs_response", "won")
    till.tell(told[:2])
    assert till.balance(user) == 0
    till.pass_time_until(month_start(start, 1))
    assert till.balance(user) == 0
    till.tell(told[2:])
    assert (till.ledger.account(user)["frozen_at"], month_start(start, 2) in till.alive(user)) == (None, True)
    assert till.ledger.broken(user) == []


def end_now(sub: Contract, at: datetime) -> list[dict[str, Any]]:
    """Cancelled at once, with the rest of the year credited."""
    left = round(12000 * ((sub.end - at) / YEAR))
    period = {"start": stamp(at), "end": stamp(sub.end)}
    line = sub.line(-left, proration=True, period=period)
    return [*sub.paid(sub.invoice("subscription_update", [line])), *sub.cancel()]


@pytest.mark.parametrize("spent", [0, 100])
def test_cancelling_at_once_with_proration_takes_the_rest_of_the_month_and_ends_it(
    year_till: Till, spent: int
) -> None:
    till = year_till
    user, sub = yearly_contract(till, allotment=12000)
    start = sub.start
    till.tell(sub.begin())
    for number in range(1, 6):
        till.pass_time_until(month_start(start, number))
    if spent:
        till.ledger.as_user(user, "consume_credits", operation="one", quantity=1000)
    at = month_start(start, 5) + timedelta(days=15)
    till.pass_time_until(at)
    till.tell(end_now(sub, at) * 2)
    left = till.balance(user)
    owed = till.ledger.value("select sum(owed) from credits.subscription_debts")
    # 166 of 365 days were paid for, and six of twelve months had come.
    too_much = 6000 - (12000 - round(12000 * 199 / 365))
    assert (left, owed) == ((0, too_much) if spent else (1000 - too_much, 0))
    for number in range(6, 13):
        till.pass_time_until(month_start(start, number))
    assert till.ledger.account(user)["lifetime_granted"] == 6000
    assert till.balance(user) == 0
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize("up", [True, False])
def test_a_change_of_plan_counts_for_the_months_that_are_left(year_till: Till, up: bool) -> None:
    till = year_till
    user, sub = yearly_contract(till, allotment=12000)
    start, paid_for = sub.start, 12000
    other = till.plan(24000 if up else 6000, 24000 if up else 6000, interval="year", monthly_allotment=True)
    till.tell(sub.begin())
    for number in range(1, 4):
        till.pass_time_until(month_start(start, number))
    at = month_start(start, 3)
    share = (sub.end - at) / YEAR
    till.tell(sub.change(other, at) * 2)
    paid_for += round((other.credits - 12000) * share)
    assert till.balance(user) == pytest.approx(2000 if up else 500, rel=0.1)
    for number in range(4, 12):
        till.pass_time_until(month_start(start, number))
        assert till.balance(user) == pytest.approx(2000 if up else 500, rel=0.1)
        assert till.ledger.broken(user) == []
    account = till.ledger.account(user)
    assert abs(account["lifetime_granted"] - account["lifetime_clawed_back"] - paid_for) <= 1


def test_a_year_told_at_its_middle_brings_the_month_that_goes_on(year_till: Till) -> None:
    till = year_till
    user, sub = yearly_contract(till)
    till.pass_time_until(month_start(sub.start, 6) + timedelta(days=3))
    till.tell(sub.begin())
    assert till.alive(user) == {month_start(sub.start, 7): 100}
    till.pass_time_until(month_start(sub.start, 7))
    assert till.alive(user) == {month_start(sub.start, 8): 100}


def test_a_year_told_when_it_is_over_brings_its_last_month_for_the_grace(year_till: Till) -> None:
    till = year_till
    user, sub = yearly_contract(till)
    till.pass_time_until(sub.end)
    till.tell(sub.begin())
    assert till.alive(user) == {sub.end + timedelta(days=30): 100}


def test_one_month_that_cannot_be_granted_holds_up_no_other(year_till: Till) -> None:
    till = year_till
    big, first = yearly_contract(till, allotment=120000)
    small, second = yearly_contract(till)
    till.tell([*first.begin(), *second.begin()])
    till.ledger.rows("update credits.billing_settings set max_grant = 5000")
    till.pass_time_until(month_start(first.start, 1))
    assert (till.balance(small), till.balance(big)) == (100, 0)
    assert till.ledger.rows("select task, sqlstate from credits.maintenance_failures") == [
        {"task": "allotments", "sqlstate": "PT400"}
    ]
    till.ledger.rows("update credits.billing_settings set max_grant = 1000000")
    till.maintain()
    assert till.balance(big) == 0, "it is tried less and less often"
    till.ledger.rows("delete from credits.maintenance_failures")
    till.maintain()
    assert (till.balance(small), till.balance(big)) == (100, 10000)
    assert till.ledger.rows("select * from credits.maintenance_failures") == []


def test_a_month_that_came_otherwise_is_no_failure_any_more(year_till: Till) -> None:
    till = year_till
    user, sub = yearly_contract(till)
    begun = sub.begin()
    till.tell(begun)
    till.ledger.rows("update credits.billing_settings set max_grant = 1")
    till.pass_time_until(month_start(sub.start, 1))
    assert len(till.ledger.rows("select * from credits.maintenance_failures")) == 1
    till.ledger.rows("update credits.billing_settings set max_grant = 1000000")
    # A message about the invoice brings what is due.
    till.ledger.rows(
        "select credits.net_payment(p.payment_intent_id) from public.purchases as p "
        "where p.payment_intent_id is not null"
    )
    assert till.balance(user) == 100
    till.maintain()
    assert till.ledger.rows("select * from credits.maintenance_failures") == []


def test_a_change_that_comes_before_its_period_waits_for_it(year_till: Till) -> None:
    endings = []
    for backwards in (False, True):
        till = year_till
        user, sub = yearly_contract(till)
        begun = sub.begin()
        changed = sub.change(till.plan(2400, 24000, interval="year", monthly_allotment=True), sub.start)
        for message in [*changed, *begun] if backwards else [*begun, *changed]:
            till.ingest(message)
        till.retry()
        endings.append((till.balance(user), sorted(till.alive(user).values())))
        assert till.ledger.broken(user) == []
    assert endings[0] == endings[1]
    assert endings[0][0] == 100 + round(1200 * 31 / 365)


@pytest.mark.parametrize("interval", ["day", "week", "month"])
def test_only_periods_of_months_come_by_month(till: Till, interval: str) -> None:
    with pytest.raises(Refused) as caught:
        till.plan(100, 1000, interval=interval, monthly_allotment=True)
    assert caught.value.constraint == "monthly_allotment_needs_a_period_of_months"
