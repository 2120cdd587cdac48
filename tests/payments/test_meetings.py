"""Rules that meet: months of a year with refunds, second subscriptions and ends; freezes of two reasons."""

import uuid
from datetime import datetime, timedelta

import pytest

from tests.support.ledger import Ledger
from tests.support.messages import Contract, Sale, new_id, stamp
from tests.support.till import (
    WARNED,
    YEAR,
    Till,
    fraud_warning,
    frozen_reason,
    month_start,
    second_subscription,
    yearly_contract,
    yearly_plan,
)


def test_no_month_of_a_second_subscription_can_be_spent(year_till: Till) -> None:
    till = year_till
    user, account = till.buyer()
    plan = yearly_plan(till)
    contracts = [Contract(account, plan, till.ledger.now(), month=YEAR) for _ in range(2)]
    till.tell(message for each in contracts for message in each.begin())
    assert till.balance(user) == 100
    for number in (1, 2):
        till.pass_time_until(month_start(contracts[0].start, number))
        assert till.balance(user) == 100
        assert till.ledger.broken(user) == []
    # Kept after all, it brings what its months would have brought that go on.
    till.ledger.as_service(
        "close_second_subscription",
        account_id=account, subscription_id=second_subscription(till, contracts), outcome="kept",
    )  # fmt: skip
    assert till.alive(user)[month_start(contracts[0].start, 3)] == 200
    till.pass_time_until(month_start(contracts[0].start, 5))
    assert till.alive(user)[month_start(contracts[0].start, 6)] == 200
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize("early", [True, False])
def test_what_an_upgrade_added_to_later_months_goes_with_its_refund(year_till: Till, early: bool) -> None:
    till = year_till
    user, sub = yearly_contract(till)
    start = sub.start
    till.tell(sub.begin())
    till.pass_time_until(month_start(start, 1))
    told = sub.change(
        till.plan(12000, 120000, interval="year", monthly_allotment=True), month_start(start, 1)
    )
    till.tell(told)
    (link,) = [each["data"]["object"] for each in told if each["type"] == "invoice_payment.paid"]
    amount = till.purchase(invoice_id=link["invoice"])["amount"]
    sale = Sale(sub.account, amount=amount, payment=link["payment"]["payment_intent"])
    till.pass_time_until(month_start(start, 2))
    assert till.balance(user) == pytest.approx(1000, rel=0.1)
    if not early:
        till.ledger.as_user(user, "consume_credits", operation="one", quantity=500)
    till.tell(sale.refund(amount))
    assert till.ledger.broken(user) == []
    if early:
        assert till.balance(user) == pytest.approx(100, abs=5)
    for number in range(3, 12):
        till.pass_time_until(month_start(start, number))
    assert till.balance(user) == pytest.approx(100, abs=5)
    assert till.ledger.broken(user) == []


def test_a_refund_of_the_year_leaves_what_was_paid_for_the_upgrade(year_till: Till) -> None:
    till = year_till
    user, sub = yearly_contract(till)
    start, payment = sub.start, new_id("pi")
    till.tell(sub.begin(payment))
    till.pass_time_until(month_start(start, 1))
    till.tell(
        sub.change(till.plan(12000, 120000, interval="year", monthly_allotment=True), month_start(start, 1))
    )
    till.tell(Sale(sub.account, amount=12000, payment=payment).refund(12000))
    for number in range(2, 6):
        till.pass_time_until(month_start(start, number))
        assert till.balance(user) == pytest.approx(900, rel=0.1)
    assert till.ledger.broken(user) == []


def test_a_subscription_that_ended_at_once_brings_no_further_months(year_till: Till) -> None:
    till = year_till
    user, sub = yearly_contract(till)
    start = sub.start
    till.tell(sub.begin())
    at = month_start(start, 2) + timedelta(days=3)
    till.pass_time_until(at)
    sub.status = "canceled"
    till.tell([sub.subscription("deleted", ended_at=stamp(at), canceled_at=stamp(at))] * 2)
    assert till.balance(user) == 100, "the month that goes on was paid for"
    for number in range(3, 13):
        till.pass_time_until(month_start(start, number))
        assert till.balance(user) == 0
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize("ends_first", [True, False])
def test_one_that_ends_with_its_year_brings_all_of_it(year_till: Till, ends_first: bool) -> None:
    till = year_till
    user, sub = yearly_contract(till)
    start = sub.start
    begun = sub.begin()
    till.tell(begun)
    for number in range(1, 12):
        till.pass_time_until(month_start(start, number))
        assert till.balance(user) == 100
    if ends_first:
        till.tell(sub.cancel())
    till.pass_time_until(sub.end)
    till.tell(sub.cancel())
    assert till.ledger.account(user)["lifetime_granted"] == 1200


def test_what_expires_of_a_month_gives_nothing_back_of_a_refund(year_till: Till) -> None:
    till = year_till
    user, sub = yearly_contract(till, rollover="2 months")
    start, payment = sub.start, new_id("pi")
    sale = Sale(sub.account, amount=12000, payment=payment)
    till.tell(sub.begin(payment))
    for number in range(1, 12):
        till.pass_time_until(month_start(start, number))
    assert till.balance(user) == 300
    till.tell(sale.refund(4800))
    # Forty of each month that did not expire unused.
    taken = till.ledger.account(user)["lifetime_clawed_back"]
    assert taken == 3 * 40
    assert list(till.alive(user).values()) == [60, 60, 60]
    till.pass_time_until(sub.end + timedelta(days=100))
    told = sale.charge_refunded()
    told["data"]["object"] |= {"status": "succeeded", "receipt_url": "https://pay.stripe.com/receipts/1"}
    till.tell([told])
    assert (till.balance(user), till.ledger.account(user)["lifetime_clawed_back"]) == (0, taken)
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize("warned_first", [False, True])
def test_a_won_dispute_leaves_a_warnings_freeze_in_any_order(own_till: Till, warned_first: bool) -> None:
    till, (user, account) = own_till, own_till.buyer()
    sale = Sale(account)
    told, warned = sale.dispute("needs_response", "won"), fraud_warning(sale.payment)
    till.tell([*sale.completed(), *([warned, *told] if warned_first else [*told[:2], warned, *told[2:]])])
    assert frozen_reason(till, user) == WARNED


def test_a_warning_leaves_an_operators_freeze(own_till: Till) -> None:
    till, (user, account) = own_till, own_till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    till.ledger.as_service("freeze_account", user_id=user, reason="Ours.")
    till.tell([fraud_warning(sale.payment)])
    assert frozen_reason(till, user) == "Ours."


@pytest.mark.parametrize("deleted", [False, True])
def test_a_trial_comes_once_a_mailbox(till: Till, deleted: bool) -> None:
    name, plan = uuid.uuid4().hex, till.plan(100, 1000, trial_days=7)
    balances, days = [], []
    for tag in ("", "" if deleted else "+2"):
        user = till.ledger.sign_up(f"{name}{tag}@example.com")
        order = till.ledger.as_user(user, "prepare_checkout", plan=plan.slug)
        sub = Contract(str(till.ledger.account(user)["id"]), plan, till.ledger.now())
        before = till.balance(user)
        till.tell(sub.begin(trial=True))
        balances.append(till.balance(user) - before)
        days.append(order["trial_period_days"])
        if deleted:
            till.ledger.rows("delete from auth.users where id = %s", user)
    assert (balances, days) == ([100, 0], [7, None])


@pytest.mark.parametrize(("off", "units"), [(None, 50), (99, 50), (100, 3)])
def test_a_plan_for_nothing_comes_for_few_units(own_ledger: Ledger, off: int | None, units: int) -> None:
    own_ledger.rows("update credits.billing_settings set max_free_packages = 3")
    till = Till(own_ledger)
    user, account = till.buyer()
    sub = Contract(account, till.plan(10, 100), own_ledger.now(), quantity=50)
    line = sub.line(sub.full_price)
    if off is not None:
        line["discount_amounts"] = [{"amount": sub.full_price * off // 100, "discount": "di_1"}]
    paid = sub.full_price * (100 - (off or 0)) // 100
    till.tell(sub.paid(sub.invoice("subscription_create", [line], amount_paid=paid, amount_due=paid)))
    assert till.balance(user) == units * 10


def test_a_change_that_came_too_early_is_told_again(year_till: Till) -> None:
    user, sub = yearly_contract(year_till)
    begun = sub.begin()
    changed = sub.change(year_till.plan(2400, 24000, interval="year", monthly_allotment=True), sub.start)
    paid = [message for message in changed if message["type"] == "invoice.paid"]
    # Failed is what the webhook answers with 500, so that Stripe sends it again by itself.
    assert year_till.tell([*paid, *begun, *paid])[0] == "failed"
    assert year_till.balance(user) == 100 + round(1200 * 31 / 365)


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [
        ("2101-11-30", "2102-02-28", 3),
        ("2104-02-29", "2105-02-28", 12),
        ("2101-08-31", "2102-02-28", 6),
        ("2102-02-28", "2102-05-31", 3),
    ],
)
def test_a_period_from_the_end_of_a_month_has_as_many_parts_as_months(
    year_till: Till, start: str, end: str, parts: int
) -> None:
    till = year_till
    begin, stop = (datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in (start, end))
    till.ledger.set_time(begin)
    user, account = till.buyer()
    plan = till.plan(1200, 12000, interval="month", interval_count=3, monthly_allotment=True)
    till.tell(Contract(account, plan, begin, month=stop - begin).begin())
    assert till.balance(user) == 1200 // parts


def test_a_second_one_that_is_kept_pays_what_is_owed(till: Till) -> None:
    user, account = till.buyer()
    plan, less = till.plan(1000, 10000), till.plan(100, 1000)
    contracts = [Contract(account, plan, till.ledger.now()) for _ in range(2)]
    first, later = contracts
    till.tell([*first.begin()])
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=1000)
    till.tell(first.change(less, first.start))
    till.tell([*later.begin()])
    till.ledger.as_service(
        "close_second_subscription",
        account_id=account, subscription_id=second_subscription(till, contracts), outcome="kept",
    )  # fmt: skip
    assert till.balance(user) == 100
    assert till.ledger.broken(user) == []
