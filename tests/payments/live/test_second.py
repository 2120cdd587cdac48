"""Two subscriptions of one account: the second is cancelled and refunded, and brings no credits."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.shop import BONUS, PAGES, Buyer, Plan, Row, Shop


def second_session(shop: Shop, buyer: Buyer, plan: Plan, **data: Any) -> str:
    """A session for a plan that did not come from the function, such as an operator's."""
    account = buyer.rows("credit_accounts")[0]["id"]
    (customer,) = shop.sql("select customer_id from credits.stripe_customers where account_id = %s", account)[
        0
    ]
    metadata = {"account_id": account, "plan": plan.slug}
    params: Any = {
        "mode": "subscription", "customer": customer, "line_items": [{"price": plan.price, "quantity": 1}],
        "metadata": metadata, "subscription_data": {"metadata": metadata, **data}, **PAGES,
    }  # fmt: skip
    return shop.stripe.v1.checkout.sessions.create(params).id


def both(shop: Shop, buyer: Buyer, plans: tuple[Plan, Plan]) -> tuple[str, str]:
    """Two open sessions, one for each plan."""
    return buyer.checkout(plan=plans[0].slug), second_session(shop, buyer, plans[1])


def listed(shop: Shop, buyer: Buyer) -> list[Row]:
    """What the operator sees of the buyer's."""
    rows: Any = shop.env.client(shop.env.secret_key).rpc("list_second_subscriptions").execute().data
    return [row for row in rows if row["user_id"] == buyer.id]


def status(shop: Shop, subscription: str) -> str:
    """As Stripe says."""
    return str(shop.stripe.v1.subscriptions.retrieve(subscription).status)


def settled(shop: Shop, buyer: Buyer, subscriptions: list[str], allotment: int) -> None:
    """One of the two runs and has brought its credits; of the other nothing is left."""
    running = [name for name in subscriptions if status(shop, name) == "active"]
    assert len(running) == 1
    (row,) = listed(shop, buyer)
    assert (row["first_id"], row["outcome"]) == (running[0], "refunded")
    assert {row["first_id"], row["subscription_id"]} == set(subscriptions)
    assert (row["status"], row["paid"], row["refunded"]) == ("canceled", 1000, 1000)
    assert buyer.balance() == BONUS + allotment
    charges = shop.stripe.v1.charges.list(
        {"customer": str(shop.stripe.v1.subscriptions.retrieve(running[0]).customer)}
    )
    assert sorted(charge.amount_refunded for charge in charges.data) == [0, 1000]
    states = {row["id"]: row["status"] for row in buyer.rows("subscriptions")}
    assert sorted(states.values()) == ["active", "canceled"]


@pytest.mark.parametrize("lost", [False, True], ids=["heard", "lost"])
def test_two_paid_at_once(shop: Shop, lost: bool) -> None:
    plans = shop.plan(300, 1000), shop.plan(300, 1000)
    ann = shop.buyer()
    sessions = both(shop, ann, plans)
    if lost:
        shop.control.delivery("drop")
    with ThreadPoolExecutor(2) as pool:
        paid = list(pool.map(shop.control.complete, sessions))
    subscriptions = [str(session["subscription"]) for session in paid]
    if lost:
        assert ann.balance() == BONUS
        with ThreadPoolExecutor(2) as pool:
            reports = [run.result() for run in [pool.submit(shop.reconcile) for _ in range(2)]]
        assert all(report["ok"] for report in reports), reports
        shop.control.delivery("normal")
        # Those of the cancellation and the refund came while nobody listened.
        shop.reconcile()
    else:
        shop.control.settled()
    settled(shop, ann, subscriptions, 300)
    again = shop.reconcile(sweep=True)
    assert (again["ok"], again["second_subscriptions"]) == (True, {})
    settled(shop, ann, subscriptions, 300)


def test_in_any_order_and_three_times(shop: Shop) -> None:
    plans = shop.plan(300, 1000), shop.plan(300, 1000)
    buyers = [shop.buyer() for _ in range(3)]
    shop.control.delivery("hold")
    pairs = []
    for buyer in buyers:
        sessions = both(shop, buyer, plans)
        pairs.append([str(shop.control.complete(session)["subscription"]) for session in sessions])
    answers = shop.control.deliver(seed=11, times=3, connections=8)
    assert {answer["status"] for answer in answers} == {200}
    shop.control.delivery("normal")
    shop.control.deliver(seed=12, times=2, connections=4)
    shop.reconcile()
    for buyer, subscriptions in zip(buyers, pairs, strict=True):
        settled(shop, buyer, subscriptions, 300)


def test_its_credits_are_not_to_be_spent(shop: Shop) -> None:
    """Not even between its payment and the refund; the operator refunds, if the settings say so."""
    plans = shop.plan(300, 1000), shop.plan(1000, 1000)
    ann = shop.buyer()
    first, second = both(shop, ann, plans)
    shop.control.complete(first)
    shop.control.settled()
    shop.sql("update credits.billing_settings set refund_second_subscriptions = false")
    try:
        name = str(shop.control.complete(second)["subscription"])
        shop.control.settled()
        assert status(shop, name) == "canceled"
        assert ann.balance() == BONUS + 300
        (row,) = listed(shop, ann)
        assert (row["paid"], row["refunded"], row["outcome"]) == (1000, 0, None)
        report = shop.reconcile()
        (problem,) = report["problems"]
        assert (problem["id"], report["ok"]) == (name, False)
        assert "1000 usd" in problem["reason"]
        payment = ann.rows("purchases")[1]["payment_intent_id"]
        shop.refund(payment)
        shop.control.settled()
        assert shop.reconcile()["ok"]
    finally:
        shop.sql("update credits.billing_settings set refund_second_subscriptions = true")
    assert (listed(shop, ann)[0]["outcome"], ann.balance()) == ("refunded", BONUS + 300)


def test_one_that_came_after_the_end_of_the_first_is_no_second(shop: Shop) -> None:
    """The end was not heard of: the credits come once Stripe was asked."""
    plans = shop.plan(300, 1000), shop.plan(200, 1000)
    ann = shop.buyer()
    first, second = both(shop, ann, plans)
    one = str(shop.control.complete(first)["subscription"])
    shop.control.settled()
    ann.spend(60)
    shop.control.delivery("drop")
    shop.stripe.v1.subscriptions.cancel(one)
    shop.control.delivery("normal")
    two = str(shop.control.complete(second)["subscription"])
    shop.control.settled()
    assert (status(shop, one), status(shop, two)) == ("canceled", "active")
    assert [row["outcome"] for row in listed(shop, ann)] == ["kept"]
    assert ann.balance() == BONUS + 300 - 300 + 200
    assert {row["id"]: row["status"] for row in ann.rows("subscriptions")} == {one: "canceled", two: "active"}


def test_a_trial_that_came_second(shop: Shop) -> None:
    plans = shop.plan(300, 1000), shop.plan(200, 1000)
    ann = shop.buyer()
    first = ann.checkout(plan=plans[0].slug)
    shop.control.complete(first)
    shop.control.settled()
    trial = second_session(shop, ann, plans[1], trial_period_days=7)
    name = str(shop.control.complete(trial)["subscription"])
    shop.control.settled()
    assert (status(shop, name), ann.balance()) == ("canceled", BONUS + 300)
    assert [row["outcome"] for row in listed(shop, ann)] == ["refunded"]


def test_what_the_webhook_could_not_do_is_made_up_for(shop: Shop) -> None:
    """Its message is stored; that it is a second is remembered with it."""
    plans = shop.plan(300, 1000), shop.plan(300, 1000)
    ann = shop.buyer()
    first, second = both(shop, ann, plans)
    one = str(shop.control.complete(first)["subscription"])
    shop.control.settled()
    name = "function public.claim_second_subscription(uuid, text, boolean)"
    shop.sql(f"revoke execute on {name} from service_role")
    try:
        two = str(shop.control.complete(second)["subscription"])
        assert "failed" not in {row["state"] for row in shop.control.settled()}
    finally:
        shop.sql(f"grant execute on {name} to service_role")
    assert (status(shop, two), ann.balance()) == ("active", BONUS + 300)
    # As if a process had been killed with it in hand, a minute ago and more.
    shop.sql(
        "update credits.second_subscriptions set claimed_until = credits.now() - interval '1 second' "
        "where subscription_id = %s", two,
    )  # fmt: skip
    report = shop.reconcile()
    assert (report["ok"], report["second_subscriptions"]) == (True, {"settled": 1})
    shop.control.settled()
    settled(shop, ann, [one, two], 300)
