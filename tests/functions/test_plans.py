"""Checkouts for plans: one that can be paid at a time; and the price that Stripe charges is the row's."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from scripts.local.stripe.control import Control
from tests.support.functions import Buy, balance
from tests.support.stack import Env, User

Connection = psycopg.Connection[Any]


@pytest.fixture
def seats(env: Env, db: Connection) -> Iterator[str]:
    """A plan without a trial, of which up to five can be had."""
    price = price_of(env, 1500)
    slug = f"seats-{uuid.uuid4().hex[:8]}"
    db.execute(
        "insert into public.subscription_plans "
        "(slug, name, credits, unit_amount, max_quantity, stripe_price_id) "
        "values (%s, 'Seats', 100, 1500, 5, %s)", [slug, price],
    )  # fmt: skip
    yield slug
    db.execute("update public.subscription_plans set active = false where slug = %s", [slug])


def price_of(env: Env, amount: int, recurring: bool = True, **more: Any) -> str:
    """A new Price in Stripe."""
    client = env.stripe().v1
    params: Any = {
        "product_data": {"name": "Something"}, "currency": "usd", "unit_amount": amount,
        **({"recurring": {"interval": "month"}} if recurring else {}), **more,
    }  # fmt: skip
    return client.prices.create(params).id


def state(env: Env, session: str) -> str:
    """open, complete or expired, as Stripe says."""
    return str(env.stripe().v1.checkout.sessions.retrieve(session).status)


def open_ones(env: Env, user: User) -> list[str]:
    """The user's sessions that can be paid, as Stripe says."""
    (customer,) = env.stripe().v1.customers.list({"email": user.email}).data
    found = env.stripe().v1.checkout.sessions.list({"customer": customer.id, "status": "open"})
    return [session.id for session in found.data]


def test_the_same_again_is_the_same_page(
    user: Callable[..., User], buy: Buy, env: Env, plan: str, control: Control
) -> None:
    ann = user()
    first = buy(ann, plan=plan)
    assert first.status_code == 200, first.text
    assert buy(ann, plan=plan).json() == first.json()
    assert buy(ann, key="k", plan=plan).json() == first.json()
    control.expire(first.json()["id"])
    again = buy(ann, plan=plan)
    assert again.status_code == 200, again.text
    assert open_ones(env, ann) == [again.json()["id"]]
    # The key brings back what it made, which is over: another one is made.
    keyed = buy(ann, key="k", plan=plan, cancel_url="http://localhost:3000/other").json()["id"]
    assert state(env, again.json()["id"]) == "expired"
    control.expire(keyed)
    fresh = buy(ann, key="k", plan=plan, cancel_url="http://localhost:3000/other").json()["id"]
    assert open_ones(env, ann) == [fresh]
    other = buy(ann, key="k", plan=plan)
    assert (other.status_code, other.json()["code"]) == (409, "PT409")
    assert open_ones(env, ann) == [fresh]  # a refused one closes nothing


def test_a_page_that_stripe_has_no_longer_is_made_anew(
    user: Callable[..., User], buy: Buy, env: Env, plan: str, seats: str, db: Connection
) -> None:
    """Say the test data was deleted, or the mode has changed."""
    for again in (plan, seats):
        ann = user()
        first = buy(ann, plan=plan).json()["id"]
        gone = f"cs_test_{uuid.uuid4().hex}"
        db.execute("update credits.plan_checkouts set session_id = %s where session_id = %s", [gone, first])
        answer = buy(ann, plan=again)
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] in open_ones(env, ann)


def test_another_plan_closes_the_page(
    user: Callable[..., User], buy: Buy, env: Env, plan: str, seats: str, control: Control
) -> None:
    ann = user()
    first = buy(ann, plan=plan).json()["id"]
    package = buy(ann, package="starter").json()["id"]
    second = buy(ann, plan=seats, quantity=5).json()["id"]
    assert (state(env, first), state(env, package), state(env, second)) == ("expired", "open", "open")
    control.complete(second)
    control.settled()
    assert buy(ann, plan=plan).status_code == 409


def test_one_that_was_paid_meanwhile_and_not_heard_of(
    user: Callable[..., User], buy: Buy, env: Env, plan: str, seats: str, control: Control
) -> None:
    control.delivery("drop")
    for again in (plan, seats):
        ann = user()
        session = control.complete(buy(ann, plan=plan).json()["id"])
        answer = buy(ann, plan=again)
        assert (answer.status_code, answer.json()["code"]) == (409, "PT409"), answer.text
        assert open_ones(env, ann) == []
        rows = ann.client.table("subscriptions").select("id,status").execute().data
        assert rows == [{"id": session["subscription"], "status": "trialing"}]  # it was asked for
    # One that is over does not stand in the way.
    env.stripe().v1.subscriptions.cancel(session["subscription"])
    assert buy(ann, plan=seats).status_code == 409  # as far as we know
    control.delivery("normal")


def test_two_at_once(user: Callable[..., User], buy: Buy, env: Env, plan: str, seats: str) -> None:
    for wishes in ([{"plan": plan}] * 4, [{"plan": plan}, {"plan": seats}] * 2):
        ann = user()
        assert buy(ann, package="starter").status_code == 200  # so that there is a customer
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda wish, ann=ann: buy(ann, **wish), wishes))
        assert {answer.status_code for answer in answers} <= {200, 409}, [a.text for a in answers]
        given = {answer.json()["id"] for answer in answers if answer.status_code == 200}
        left = {
            session for session in open_ones(env, ann)
            if env.stripe().v1.checkout.sessions.retrieve(session).mode == "subscription"
        }  # fmt: skip
        assert len(left) == 1
        assert left <= given
        if wishes[0] == wishes[1]:
            assert given == left


def test_quantities(user: Callable[..., User], buy: Buy, plan: str, seats: str, db: Connection) -> None:
    ann = user()
    for body, limit in (
        ({"plan": plan, "quantity": 2}, 1),  # with a trial
        ({"plan": seats, "quantity": 6}, 5),
        ({"package": "enterprise", "quantity": 11}, 10),
    ):
        answer = buy(ann, **body)
        assert (answer.status_code, answer.json()["code"]) == (400, "PT400"), body
        assert f'"limit": {limit}' in answer.json()["details"]
    db.execute("update public.credit_packages set max_quantity = 2 where slug = 'pro'")
    try:
        assert buy(ann, package="pro", quantity=2).status_code == 200
        assert buy(ann, package="pro", quantity=3).status_code == 400
    finally:
        db.execute("update public.credit_packages set max_quantity = null where slug = 'pro'")


def test_the_price_in_stripe_is_not_the_rows(
    user: Callable[..., User], buy: Buy, env: Env, db: Connection, control: Control
) -> None:
    ann = user()
    slug = f"odd-{uuid.uuid4().hex[:8]}"
    wrong = price_of(env, 1999)
    db.execute(
        "insert into public.subscription_plans (slug, name, credits, unit_amount, stripe_price_id) "
        "values (%s, 'Odd', 100, 999, %s)", [slug, wrong],
    )  # fmt: skip
    for _ in range(2):
        answer = buy(ann, plan=slug)
        assert (answer.status_code, answer.json()["code"]) == (409, "PT409"), answer.text
        assert "unit_amount is 999 here, 1999 in Stripe." in answer.json()["details"]
    asked = [entry["path"] for entry in control.requests() if wrong in entry["path"]]
    assert len(asked) == 1  # for some minutes what was heard is good
    # Edited rows are held against it at once, both ways.
    db.execute("update public.subscription_plans set unit_amount = 1999 where slug = %s", [slug])
    assert buy(ann, plan=slug).status_code == 200
    db.execute("update public.subscription_plans set interval_count = 3 where slug = %s", [slug])
    assert buy(ann, plan=slug).status_code == 409
    db.execute("update public.subscription_plans set interval_count = 1 where slug = %s", [slug])
    assert len([1 for entry in control.requests() if wrong in entry["path"]]) == 1
    # What changes in Stripe is seen when the minutes are over.
    env.stripe().v1.prices.update(wrong, {"active": False})
    db.execute("update credits.stripe_prices set checked_at = checked_at - interval '6 minutes'")
    answer = buy(user(), plan=slug)
    assert answer.status_code == 409
    assert "active is true here, false in Stripe." in answer.json()["details"]
    db.execute("update public.subscription_plans set active = false where slug = %s", [slug])


def test_a_package_sold_by_a_price(user: Callable[..., User], buy: Buy, env: Env, db: Connection) -> None:
    """$99 of credits for $1; and what Stripe has no Price for."""
    ann, slug = user(), f"price-{uuid.uuid4().hex[:8]}"
    db.execute(
        "insert into public.credit_packages (slug, name, credits, unit_amount, stripe_price_id) "
        "values (%s, 'Sold by a price', 1000, 9900, %s)", [slug, price_of(env, 100, recurring=False)],
    )  # fmt: skip
    try:
        assert buy(ann, package=slug).status_code == 409
        for price, why in (
            (price_of(env, 9900), "type is one_time here, recurring in Stripe."),
            (price_of(env, 9900, recurring=False, currency="eur"), "currency is usd here, eur in Stripe."),
            (f"price_{uuid.uuid4().hex}", "Stripe has no such Price."),
        ):
            db.execute(
                "update public.credit_packages set stripe_price_id = %s where slug = %s", [price, slug]
            )
            answer = buy(ann, package=slug)
            assert (answer.status_code, answer.json()["code"]) == (409, "PT409"), answer.text
            assert why in answer.json()["details"]
        right = price_of(env, 9900, recurring=False)
        db.execute("update public.credit_packages set stripe_price_id = %s where slug = %s", [right, slug])
        assert buy(ann, package=slug).status_code == 200
    finally:
        db.execute("delete from public.credit_packages where slug = %s", [slug])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, None),
        ({"unit_amount": None}, "unit_amount"),
        ({"billing_scheme": "tiered"}, "billing_scheme"),
        ({"transform_quantity": {"divide_by": 10, "round": "up"}}, "transform_quantity"),
        ({"custom_unit_amount": {"minimum": 1}}, "custom_unit_amount"),
        ({"type": "one_time", "recurring": None}, "type"),
        ({"recurring": {"interval": "year", "interval_count": 1, "usage_type": "licensed"}}, "interval"),
        (
            {"recurring": {"interval": "month", "interval_count": 2, "usage_type": "licensed"}},
            "interval_count",
        ),
        ({"recurring": {"interval": "month", "interval_count": 1, "usage_type": "metered"}}, "usage_type"),
        ({"tax_behavior": "inclusive"}, None),
    ],
)
def test_what_of_a_price_matters(change: dict[str, Any], what: str | None, env: Env, db: Connection) -> None:
    answer: Any = env.stripe().v1.prices.retrieve(price_of(env, 700)).last_response
    row = db.execute(
        "select credits.price_differences(%s, 'usd', 700, 'month', 1, true)",
        [Jsonb({**answer.data, **change})],
    ).fetchone()
    assert row
    assert [sentence.split()[0] for sentence in row[0]][:1] == ([] if what is None else [what])


def test_a_trial_without_a_card(
    user: Callable[..., User], buy: Buy, env: Env, plan: str, control: Control, db: Connection
) -> None:
    db.execute("update public.subscription_plans set trial_without_card = true where slug = %s", [plan])
    ann = user()
    before = balance(ann)
    session = control.complete(buy(ann, plan=plan).json()["id"], card=False)
    control.settled()
    subscription = env.stripe().v1.subscriptions.retrieve(session["subscription"])
    assert subscription.status == "trialing"
    assert subscription.trial_settings
    assert subscription.trial_settings.end_behavior.missing_payment_method == "cancel"
    assert balance(ann) == before + 300
    env.stripe().v1.subscriptions.cancel(subscription.id)
    control.settled()
    # Only a trial is to be had without a card.
    second = buy(ann, plan=plan).json()["id"]
    assert env.stripe().v1.checkout.sessions.retrieve(second).payment_method_collection == "always"
