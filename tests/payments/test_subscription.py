"""Subscriptions: credits from paid invoices, state from the objects' own content."""

from datetime import timedelta

import pytest

from tests.ledger.direct import Refused
from tests.payments.conftest import Till
from tests.payments.messages import Contract, Sale, event, new_id, stamp


def contract(
    till: Till, allotment: int = 100, unit_amount: int = 1000, **columns: object
) -> tuple[str, Contract]:
    user, account = till.buyer()
    return user, Contract(account, till.plan(allotment, unit_amount, **columns), till.ledger.now())


def lots(till: Till, user: str) -> list[tuple[int, int, object]]:
    till.ledger.settle(user)
    return [(row["remaining"], row["priority"], row["expires_at"]) for row in till.ledger.lots(user)]


def owed(till: Till, sub: Contract) -> int:
    return int(
        till.ledger.value(
            "select sum(owed) from credits.subscription_debts where subscription_id = %s", sub.id
        )
    )


def test_the_first_invoice_grants_one_period(till: Till) -> None:
    user, sub = contract(till)
    assert set(till.tell(sub.begin())) == {"applied"}
    assert lots(till, user) == [(100, 40, sub.end)]
    row = till.subscription(sub.id)
    assert (row["plan"], row["status"], row["current_period_end"]) == (sub.plan.slug, "active", sub.end)
    assert till.purchase(subscription_id=sub.id)["amount"] == 1000
    assert till.ledger.as_user(user, "my_stripe_customer") == sub.customer


def test_each_renewal_grants_once_and_unused_credits_expire(till: Till) -> None:
    user, sub = contract(till)
    till.tell(sub.begin())
    renewal = sub.renew()
    till.tell(renewal * 2)
    assert till.balance(user) == 200
    till.tell(message | {"id": new_id("evt")} for message in renewal)
    assert till.balance(user) == 200


def test_rollover_keeps_up_to_the_cap(till: Till) -> None:
    user, sub = contract(till, rollover="30 days", rollover_cap=30)
    till.tell(sub.begin())
    assert sorted(lots(till, user)) == [(30, 40, sub.end + timedelta(days=30)), (70, 40, sub.end)]
    # What does not roll over burns first.
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=75)
    assert sorted(row[0] for row in lots(till, user)) == [0, 25]


def test_rollover_without_a_cap_keeps_all(till: Till) -> None:
    user, sub = contract(till, rollover="30 days")
    till.tell(sub.begin())
    assert lots(till, user) == [(100, 40, sub.end + timedelta(days=30))]


@pytest.mark.parametrize(("trial_credits", "granted"), [(None, 100), (5, 5), (0, 0)])
def test_a_trial_grants_what_the_plan_says(till: Till, trial_credits: int | None, granted: int) -> None:
    user, sub = contract(till, trial_credits=trial_credits)
    till.tell(sub.begin(trial=True))
    assert (till.balance(user), till.subscription(sub.id)["status"]) == (granted, "trialing")
    till.tell(sub.renew())
    assert till.balance(user) == granted + 100


def test_an_upgrade_grants_the_difference_only(till: Till) -> None:
    user, sub = contract(till)
    till.tell(sub.begin())
    bigger = till.plan(500, 4000)
    till.tell(sub.change(bigger, sub.start + timedelta(days=15)) * 2)
    assert till.balance(user) == 100 + 200
    assert till.subscription(sub.id)["plan"] == bigger.slug
    till.tell(sub.renew())
    assert till.balance(user) == 300 + 500
    assert till.ledger.broken(user) == []


def test_a_new_period_that_starts_at_the_change_is_granted_in_full(till: Till) -> None:
    user, sub = contract(till)
    till.tell(sub.begin())
    yearly = till.plan(1500, 10000, interval="year")
    at = sub.start + timedelta(days=15)
    lines = [
        sub.line(-500, proration=True, period={"start": stamp(at), "end": stamp(sub.end)}),
        sub.line(10000, yearly, period={"start": stamp(at), "end": stamp(at + timedelta(days=365))}),
        # Billed before: not again.
        sub.line(1000),
    ]
    till.tell(sub.paid(sub.invoice("subscription_update", lines)))
    assert till.balance(user) == 100 - 50 + 1500


def test_going_down_and_up_again_wins_nothing(till: Till) -> None:
    user, sub = contract(till, allotment=500, unit_amount=4000)
    big, small = sub.plan, till.plan(100, 1000)
    sale = Sale(sub.account, credits=1000)
    till.tell([*sub.begin(), *sale.completed()])
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=450)
    half = sub.start + timedelta(days=15)
    till.tell(sub.change(small, half))
    # 200 too many were granted; 50 were left. The purchase is not touched.
    assert till.balance(user) == 1000
    assert owed(till, sub) == 150
    till.tell(sub.change(big, half))
    assert till.balance(user) == 1000 + 200 - 150
    assert owed(till, sub) == 0
    till.tell(sub.renew())
    assert till.balance(user) == 1050 + 500
    assert till.ledger.broken(user) == []


def test_quantity_multiplies(till: Till) -> None:
    user, sub = contract(till)
    sub.quantity = 3
    till.tell(sub.begin())
    assert till.balance(user) == 300


def test_a_failed_renewal_leaves_what_was_granted_and_recovers(till: Till) -> None:
    user, sub = contract(till)
    till.tell(sub.begin())
    told = sub.renew(failures=2)
    recovered = next(number for number, message in enumerate(told) if message["type"] == "invoice.paid")
    till.tell(told[:recovered])
    assert (till.balance(user), till.subscription(sub.id)["status"]) == (100, "past_due")
    till.tell(told[recovered : recovered + 1])
    # The paid invoice says so before the subscription does.
    assert (till.balance(user), till.subscription(sub.id)["status"]) == (200, "active")
    till.tell(told)
    assert till.balance(user) == 200


def test_a_refunded_period_is_taken_back_and_the_next_is_not(till: Till) -> None:
    user, sub = contract(till)
    payment = new_id("pi")
    refund = Sale(sub.account, amount=1000, payment=payment).refund(500)
    till.tell([*refund, *sub.begin(payment)])
    assert till.balance(user) == 50
    till.tell(sub.renew())
    assert till.balance(user) == 150
    assert till.ledger.broken(user) == []


def test_a_refund_takes_from_the_periods_own_lots_first(till: Till) -> None:
    user, sub = contract(till, rollover="30 days", rollover_cap=30)
    payment = new_id("pi")
    till.tell([*Sale(sub.account).completed(), *sub.begin(payment)])
    till.tell(Sale(sub.account, amount=1000, payment=payment).refund(1000))
    assert [row[0] for row in lots(till, user)] == [100, 0, 0]


def test_a_refund_after_a_downgrade_takes_no_more_than_was_left(till: Till) -> None:
    user, sub = contract(till, allotment=500, unit_amount=4000)
    payment = new_id("pi")
    till.tell(sub.begin(payment))
    till.tell(sub.change(till.plan(100, 1000), sub.start + timedelta(days=15)))
    assert till.balance(user) == 300
    till.tell(Sale(sub.account, amount=4000, payment=payment).refund(4000))
    assert till.balance(user) == 0
    assert till.ledger.broken(user) == []


def test_deleted_is_final(till: Till) -> None:
    user, sub = contract(till)
    till.tell(sub.begin())
    update = sub.subscription("updated", cancel_at=stamp(sub.end))
    till.tell([*sub.cancel(), update])
    assert till.subscription(sub.id)["status"] == "canceled"
    assert till.balance(user) == 100


def test_two_contents_of_one_period_ask_for_a_refresh(till: Till) -> None:
    _, sub = contract(till)
    till.tell(sub.begin())
    paused = sub.subscription("updated", pause_collection={"behavior": "void"})
    assert till.ingest(paused)["refresh"] == sub.id
    row = till.subscription(sub.id)
    assert (row["paused"], row["refresh_wanted"]) == (True, True)
    # Stripe may say what was known already: then that is sure.
    again = paused["data"]["object"]
    till.ledger.as_service("ingest_stripe_object", object=again)
    assert till.subscription(sub.id)["refresh_wanted"] is False
    till.tell([paused | {"id": new_id("evt")}, sub.subscription("updated", cancel_at=stamp(sub.end))])
    assert till.subscription(sub.id)["refresh_wanted"] is True
    now = sub.subscription("updated", pause_collection=None)["data"]["object"]
    assert till.ledger.as_service("ingest_stripe_object", object=now) == {"status": "changed", "reason": None}
    row = till.subscription(sub.id)
    assert (row["paused"], row["refresh_wanted"]) == (False, False)


def test_an_earlier_period_is_old_news(till: Till) -> None:
    _, sub = contract(till)
    old = sub.begin()
    till.tell(sub.renew())
    assert all(till.ingest(message)["refresh"] is None for message in old)
    assert till.subscription(sub.id)["current_period_end"] == sub.end


def test_paid_for_but_heard_of_too_late_lives_for_the_grace(till: Till) -> None:
    user, sub = contract(till)
    sub.start -= timedelta(days=100)
    till.tell(sub.begin())
    assert lots(till, user) == [(100, 40, till.ledger.now() + timedelta(days=30))]


def test_other_peoples_subscriptions_are_ignored(till: Till) -> None:
    _, sub = contract(till)
    sub.account = None  # type: ignore[assignment]
    sub.plan = type(sub.plan)("other", "price_of_another_product", 1, 1000)
    assert set(till.tell(sub.begin())) <= {"ignored", "applied"}
    assert till.ledger.rows("select * from public.subscriptions where id = %s", sub.id) == []


def test_a_plan_of_ours_for_nobody_waits_for_its_customer(till: Till) -> None:
    user, sub = contract(till)
    account, sub.account = sub.account, None  # type: ignore[assignment]
    paid = sub.begin()[1]
    answer = till.ingest(paid)
    assert answer["status"] == "quarantined"
    assert "names an account" in answer["reason"]
    till.ledger.as_service("link_stripe_customer", account_id=account, customer_id=sub.customer)
    assert till.ledger.as_service("retry_stripe_events")["applied"] == 1
    assert till.balance(user) == 100


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"currency": "eur"}, "another currency"),
        ({"lines": {"has_more": True, "data": "lines"}}, "more lines"),
        ({"lines": None}, "no lines"),
    ],
)
def test_an_invoice_that_cannot_be_granted_as_it_is_waits(till: Till, change: dict, reason: str) -> None:  # type: ignore[type-arg]
    user, sub = contract(till)
    invoice = sub.invoice("subscription_create", [sub.line(1000)])
    if change.get("lines"):
        change = {"lines": {"has_more": True, "data": invoice["lines"]["data"]}}
    answer = till.ingest(event("invoice.paid", invoice | change))
    assert answer["status"] == "quarantined"
    assert reason in answer["reason"]
    assert answer["refresh"] == (invoice["id"] if "more" in reason else None)
    assert till.balance(user) == 0
    assert till.ledger.as_service("ingest_stripe_object", object=invoice)["status"] == "changed"
    assert till.balance(user) == 100
    # What was put aside has nothing to add.
    till.ledger.as_service("retry_stripe_events")
    assert till.tell([event("invoice.paid", invoice | change)]) == ["applied"]
    assert till.balance(user) == 100


def test_an_account_has_one_subscription(till: Till) -> None:
    user, sub = contract(till, trial_days=7)
    asked = till.ledger.as_user(user, "prepare_checkout", plan=sub.plan.slug)
    assert asked["trial_period_days"] == 7
    till.tell(sub.begin(trial=True))
    with pytest.raises(Refused) as caught:
        till.ledger.as_user(user, "prepare_checkout", plan=sub.plan.slug)
    assert caught.value.code == "PT409"
    till.tell(sub.cancel())
    # One trial is enough.
    assert till.ledger.as_user(user, "prepare_checkout", plan=sub.plan.slug)["trial_period_days"] is None
