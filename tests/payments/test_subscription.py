"""Subscriptions: credits from paid invoices, state from the objects' own content."""

from datetime import timedelta

import pytest

from tests.support.ledger import Refused
from tests.support.messages import Contract, Plan, Sale, event, new_id, stamp
from tests.support.till import Till


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


def test_what_a_debt_took_of_a_later_period_is_no_reason_to_forgive_the_next(till: Till) -> None:
    user, sub = contract(till, allotment=2000, unit_amount=3000)
    plus, basic = sub.plan, till.plan(500, 1000)

    def in_half(plan: Plan) -> tuple[int, int]:
        till.tell(sub.change(plan, sub.start + timedelta(days=15)))
        return till.balance(user), owed(till, sub)

    def renewed() -> tuple[int, int]:
        till.tell(sub.renew())
        return till.balance(user), owed(till, sub)

    till.tell(sub.begin())
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=2000)
    assert in_half(basic) == (0, 750)
    assert renewed() == (0, 250)
    assert in_half(plus) == (500, 0)
    assert in_half(basic) == (0, 250)
    assert renewed() == (250, 0)
    assert till.ledger.broken(user) == []


def test_up_and_down_each_month_wins_nothing(till: Till) -> None:
    """Odd months: up, spend all, down. Even months: up and down, unspent."""
    user, sub = contract(till, allotment=500, unit_amount=1000)
    basic, plus = sub.plan, till.plan(2000, 3000)
    spent = 0
    till.tell(sub.begin())
    for month in range(1, 7):
        till.tell(sub.change(plus, sub.start + timedelta(days=1)))
        if month % 2 and (left := till.balance(user)) > 0:
            till.ledger.as_user(user, "consume_credits", operation="one", quantity=left)
            spent += left
        till.tell(sub.change(basic, sub.start + timedelta(days=2)))
        till.ledger.pass_time(sub.month)
        till.tell(sub.renew())
    paid_for = 7 * 500 + 6 * 50  # each month's difference for a day
    expired = till.ledger.account(user)["lifetime_expired"]
    assert till.balance(user) - owed(till, sub) == paid_for - spent - expired
    # All that is there is free of debt, or all of it goes to the debt.
    assert till.balance(user) == 0 or owed(till, sub) == 0
    assert spent <= paid_for + owed(till, sub)
    assert till.ledger.broken(user) == []


def test_a_refund_of_the_period_that_paid_a_debt_takes_its_credits(till: Till) -> None:
    user, sub = contract(till, allotment=2000, unit_amount=3000)
    basic = till.plan(500, 1000)
    till.tell(sub.begin())
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=2000)
    till.tell(sub.change(basic, sub.start + timedelta(days=15)))
    renewal = sub.renew()
    till.tell(renewal)
    assert (till.balance(user), owed(till, sub)) == (0, 250)
    payment = renewal[-1]["data"]["object"]["payment"]["payment_intent"]
    till.tell(Sale(sub.account, amount=1000, payment=payment).refund(1000))
    assert (till.balance(user), owed(till, sub)) == (0, 750)
    till.tell(sub.renew())
    assert (till.balance(user), owed(till, sub)) == (0, 250)
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


def test_a_failed_invoice_alone_means_past_due(till: Till) -> None:
    _, sub = contract(till)
    till.tell(sub.begin())
    renewed, failed, *_ = sub.renew(failures=1)
    till.tell([renewed, failed])
    assert till.subscription(sub.id)["status"] == "past_due"


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
    messages = sub.begin()
    for message in messages:
        message["data"]["object"].pop("metadata", None)
        if message["data"]["object"]["object"] == "invoice":
            message["data"]["object"]["parent"]["subscription_details"]["metadata"] = {}
    assert set(till.tell(messages)) <= {"ignored", "applied"}
    assert till.ledger.rows("select * from public.subscriptions where id = %s", sub.id) == []


def test_a_plan_of_ours_for_nobody_waits_for_its_customer(till: Till) -> None:
    user, sub = contract(till)
    account, sub.account = sub.account, None  # type: ignore[assignment]
    paid = sub.begin()[1]
    answer = till.ingest(paid)
    assert answer["status"] == "quarantined"
    assert "names an account" in answer["reason"]
    till.ledger.as_service("link_stripe_customer", account_id=account, customer_id=sub.customer)
    till.retry()
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
    till.retry()
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


def test_a_new_price_is_a_new_row_and_who_has_the_old_one_keeps_it(till: Till) -> None:
    user, sub = contract(till)
    till.tell(sub.begin())
    till.ledger.rows("update public.subscription_plans set active = false where slug = %s", sub.plan.slug)
    dearer = till.plan(120, 1500, slug=sub.plan.slug)
    till.tell(sub.renew())
    assert till.balance(user) == 200
    other, _ = till.buyer()
    asked = till.ledger.as_user(other, "prepare_checkout", plan=sub.plan.slug)
    assert asked["line_item"]["price"] == dearer.price


def test_paid_at_a_price_that_no_plan_has_waits_for_its_row(till: Till) -> None:
    user, sub = contract(till)
    price = sub.plan.price
    till.tell(sub.begin())
    sub.plan.price = new_id("price")
    answers = [till.ingest(message) for message in sub.renew()]
    assert "subscription_plans" in next(answer["reason"] for answer in answers if answer["reason"])
    assert till.balance(user) == 100
    till.plan(100, 1000, active=False, stripe_price_id=sub.plan.price)
    till.retry()
    assert till.balance(user) == 200
    assert price != sub.plan.price


def test_a_downgrade_to_a_shorter_period_is_collected_from_the_next(till: Till) -> None:
    user, sub = contract(till)
    yearly, month = till.plan(1500, 10000, interval="year"), sub.plan
    till.tell(sub.begin())
    at = sub.start + timedelta(days=15)
    year = {"start": stamp(at), "end": stamp(at + timedelta(days=365))}
    rest = {"start": stamp(at), "end": stamp(sub.end)}
    lines = [sub.line(-500, month, proration=True, period=rest), sub.line(10000, yearly, period=year)]
    till.tell(sub.paid(sub.invoice("subscription_update", lines)))
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=till.balance(user))
    period = {"start": stamp(at), "end": stamp(at + sub.month)}
    lines = [sub.line(-9900, yearly, proration=True, period=year), sub.line(1000, month, period=period)]
    till.tell(sub.paid(sub.invoice("subscription_update", lines)))
    assert till.balance(user) == 0
    sub.start = at
    till.tell(sub.renew())
    assert till.balance(user) == 0
    assert till.ledger.broken(user) == []


def test_leaving_and_coming_back_does_not_shake_off_a_debt(till: Till) -> None:
    user, sub = contract(till, allotment=500, unit_amount=4000)
    big = sub.plan
    till.tell(sub.begin())
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=500)
    till.tell(sub.change(till.plan(100, 1000), sub.start))
    till.tell(sub.cancel())
    till.tell([*Sale(sub.account).completed(), *Contract(sub.account, big, till.ledger.now()).begin()])
    # The purchase of 100 is not touched.
    assert till.balance(user) == 100 + 500 - 400


def test_a_trial_once_an_account_however_many_checkouts_were_open(till: Till) -> None:
    user, sub = contract(till)
    for _ in range(3):
        other = Contract(sub.account, sub.plan, till.ledger.now(), customer=sub.customer)
        assert set(till.tell(other.begin(trial=True))) == {"applied"}
    assert till.balance(user) == 100


@pytest.mark.parametrize("trial", [False, True])
def test_an_update_that_costs_nothing_grants_nothing(till: Till, trial: bool) -> None:
    """Such as a trial that is made longer."""
    user, sub = contract(till)
    till.tell(sub.begin(trial=trial))
    till.tell(sub.paid(sub.invoice("subscription_update", [sub.line(0)])))
    assert till.balance(user) == 100


def test_a_refund_of_what_expired_unused_takes_nothing_else(till: Till) -> None:
    user, account = till.buyer()
    till = Till(till.ledger)
    sub = Contract(account, till.plan(100, 1000), till.ledger.now() - timedelta(days=29))
    payment = new_id("pi")
    till.tell([*Sale(account).completed(), *sub.begin(payment)])
    till.ledger.pass_time(timedelta(days=2))
    till.tell(Sale(account, amount=1000, payment=payment).refund(1000))
    assert till.balance(user) == 100
    assert till.purchase(subscription_id=sub.id)["credits_clawed_back"] == 0
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize("refund_first", [False, True])
def test_refund_and_downgrade_of_one_period_in_either_order(till: Till, refund_first: bool) -> None:
    user, sub = contract(till, allotment=500, unit_amount=4000)
    payment = new_id("pi")
    till.tell(sub.begin(payment))
    down = sub.change(till.plan(100, 1000), sub.start + timedelta(days=15))
    refund = Sale(sub.account, amount=4000, payment=payment).refund(4000)
    till.tell([*refund, *down] if refund_first else [*down, *refund])
    assert till.balance(user) == 0
    assert (owed(till, sub), till.purchase(payment_intent_id=payment)["credits_clawed_back"]) == (0, 500)
    till.tell(sub.renew())
    assert till.balance(user) == 100
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize("refunded", [1000, 4000])
@pytest.mark.parametrize("spent", [0, 450, 500])
def test_refund_and_downgrade_give_one_result(till: Till, refunded: int, spent: int) -> None:
    found = []
    for refund_first in (False, True):
        user, sub = contract(till, allotment=500, unit_amount=4000)
        payment = new_id("pi")
        till.tell([*Sale(sub.account, credits=60).completed(), *sub.begin(payment)])
        if spent:
            till.ledger.as_user(user, "consume_credits", operation="one", quantity=spent)
        down = sub.change(till.plan(100, 1000), sub.start + timedelta(days=15))
        refund = Sale(sub.account, amount=4000, payment=payment).refund(refunded)
        till.tell([*refund, *down] if refund_first else [*down, *refund])
        row = till.purchase(payment_intent_id=payment)
        found.append((till.balance(user), owed(till, sub), row["credits_clawed_back"], lots(till, user)))
        assert till.ledger.broken(user) == []
    first, second = ((*one[:3], [lot[0] for lot in one[3]]) for one in found)
    assert first == second


def test_a_change_of_period_refunded_takes_no_more_than_it_granted(till: Till) -> None:
    user, sub = contract(till)
    till.tell(sub.begin())
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=100)
    at = sub.start + timedelta(days=15)
    lines = [
        sub.line(-500, proration=True, period={"start": stamp(at), "end": stamp(sub.end)}),
        sub.line(
            10000,
            till.plan(1500, 10000, interval="year"),
            period={"start": stamp(at), "end": stamp(at + timedelta(days=365))},
        ),
    ]
    payment = new_id("pi")
    till.tell(sub.paid(sub.invoice("subscription_update", lines), payment))
    assert till.balance(user) == 1450
    pending, failed = Sale(sub.account, amount=9500, payment=payment).refund(
        9500, "pending", "failed", told_by_charge=False
    )
    till.tell([pending])
    assert till.balance(user) == 0
    till.tell([failed])
    assert till.balance(user) == 1450
    assert till.ledger.broken(user) == []


def test_a_subscription_outlives_its_customers_deletion(till: Till) -> None:
    user, sub = contract(till)
    till.ledger.as_service("link_stripe_customer", account_id=sub.account, customer_id=sub.customer)
    sub.account = None  # type: ignore[assignment]
    till.tell(sub.begin()[:-1])
    till.tell([event("customer.deleted", {"id": sub.customer, "object": "customer"}), *sub.cancel()])
    assert till.subscription(sub.id)["status"] == "canceled"
    assert till.ledger.as_user(user, "prepare_checkout", plan=sub.plan.slug)["mode"] == "subscription"


def test_a_customers_subscription_to_something_else_is_not_ours(till: Till) -> None:
    user, account = till.buyer()
    plan = till.plan(100, 1000)
    other = Contract(account, Plan("other", new_id("price"), 1, 1), till.ledger.now())
    till.ledger.as_service("link_stripe_customer", account_id=account, customer_id=other.customer)
    messages = other.begin()[:-1]
    for message in messages:
        content = message["data"]["object"]
        content.pop("metadata", None)
        if content["object"] == "invoice":
            content["parent"]["subscription_details"]["metadata"] = {}
    # A paid invoice may be for a plan whose row is yet to come: a person has to say.
    told = zip(messages, till.tell(messages), strict=True)
    assert [m["type"] for m, status in told if status == "quarantined"] == ["invoice.paid"]
    assert till.ledger.rows("select from public.purchases where account_id = %s", account) == []
    assert till.ledger.as_user(user, "prepare_checkout", plan=plan.slug)["mode"] == "subscription"


def test_a_known_customers_invoice_waits_for_the_row_of_its_price(till: Till) -> None:
    """Such as a subscription that was made in Stripe's dashboard, before the plan's row."""
    user, account = till.buyer()
    made = Contract(account, Plan("new", new_id("price"), 70, 1000), till.ledger.now())
    till.ledger.as_service("link_stripe_customer", account_id=account, customer_id=made.customer)
    invoice = made.invoice("subscription_create", [made.line(1000)])
    invoice["parent"]["subscription_details"]["metadata"] = {}
    answer = till.ingest(event("invoice.paid", invoice))
    assert answer["status"] == "quarantined"
    assert "subscription_plans" in answer["reason"]
    # Not paid, it says nothing about credits.
    failed = invoice | {"id": new_id("in"), "status": "open"}
    assert till.tell([event("invoice.payment_failed", failed)]) == ["ignored"]
    till.plan(70, 1000, stripe_price_id=made.plan.price)
    till.retry()
    assert till.balance(user) == 70
    assert till.purchase(invoice_id=invoice["id"])["status"] == "paid"


@pytest.mark.parametrize(("rollover", "lot"), [("0", (50, 0)), ("30 days", (20, 30))])
def test_a_first_invoice_for_a_part_of_the_period_grants_its_share(
    till: Till, rollover: str, lot: tuple[int, int]
) -> None:
    """As with billing_cycle_anchor: the only line is a proration."""
    user, sub = contract(till, rollover=rollover, rollover_cap=30)
    line = sub.line(500)
    line["parent"]["subscription_item_details"]["proration"] = True
    bill = sub.paid(sub.invoice("subscription_create", [line]))
    till.tell(bill * 2)
    till.tell(message | {"id": new_id("evt")} for message in bill)
    assert till.balance(user) == 50
    found = {row[2]: row[0] for row in lots(till, user)}
    assert (found.get(sub.end, 0), found.get(sub.end + timedelta(days=30), 0)) == lot
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize("amount", [10**12, -(10**12), 10**17, -(10**17), 10**19, -(10**19)])
@pytest.mark.parametrize("reason", ["subscription_update", "subscription_create"])
def test_a_proration_out_of_range_is_put_aside(till: Till, amount: int, reason: str) -> None:
    user, sub = contract(till)
    till.tell(sub.begin())
    bill = sub.invoice(reason, [sub.line(amount, proration=True)], amount_paid=0, amount_due=0)
    answer = till.ingest(event("invoice.paid", bill))
    if reason == "subscription_create" and -(10**18) < amount < 0:
        assert answer["status"] == "applied"  # a first invoice takes nothing
    else:
        assert answer["status"] == "quarantined", answer
        assert till.ledger.rows("select from public.purchases where invoice_id = %s", bill["id"]) == []
    assert till.balance(user) == 100


@pytest.mark.parametrize("trial_credits", [None, 50])
def test_a_trial_grants_once_whatever_the_quantity(till: Till, trial_credits: int | None) -> None:
    user, sub = contract(till, allotment=60, trial_credits=trial_credits)
    sub.quantity = 1000
    till.tell(sub.begin(trial=True))
    assert till.balance(user) == (trial_credits or 60)
    # More seats, changed in the portal while the trial goes on, cost nothing and bring nothing.
    sub.quantity = 2000
    till.tell([sub.subscription("updated"), *sub.paid(sub.invoice("subscription_update", [sub.line(0)]))])
    free = [sub.line(0, proration=True), sub.line(0, proration=True)]
    till.tell(sub.paid(sub.invoice("subscription_update", free)))
    assert till.balance(user) == (trial_credits or 60)
    # What is paid for comes in full.
    sub.quantity = 3
    till.tell(sub.renew())
    assert till.balance(user) == (trial_credits or 60) + 180
    assert till.ledger.broken(user) == []


def test_one_trial_however_many_items_the_subscription_has(till: Till) -> None:
    user, sub = contract(till, trial_credits=50, rollover="30 days", rollover_cap=20)
    other = till.plan(100, 1000, trial_credits=70)
    bill = sub.invoice("subscription_create", [sub.line(0), sub.line(0, other), sub.line(0)])
    assert till.tell(sub.paid(bill)) == ["applied"]
    assert till.balance(user) == 50


def test_a_voided_invoice_is_no_longer_due(till: Till) -> None:
    _, sub = contract(till)
    till.tell(sub.begin())
    told = sub.renew(failures=1)[:3]
    till.tell(told)
    sub.status = "active"
    failed = told[1]["data"]["object"]
    till.tell([sub.subscription("updated"), event("invoice.voided", failed | {"status": "void"})])
    till.tell([event("invoice.payment_failed", failed)])
    assert till.subscription(sub.id)["status"] == "active"


def test_what_stripe_says_when_asked_counts_whatever_the_period(till: Till) -> None:
    _, sub = contract(till)
    till.tell(sub.begin())
    before = sub.subscription("updated")["data"]["object"]
    till.tell(sub.renew())
    till.ledger.as_service("ingest_stripe_object", object=before | {"cancel_at": stamp(sub.end)})
    assert till.subscription(sub.id)["cancel_at"] == sub.end
