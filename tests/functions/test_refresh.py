"""Subscription events whose order is not in them: Stripe is asked."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from scripts.local.stripe.control import Control
from tests.support.functions import PAGES, deliver, post
from tests.support.stack import Env, User

Connection = psycopg.Connection[Any]
Subscribed = tuple[str, list[dict[str, Any]]]


@pytest.fixture
def subscribed(
    user: Callable[..., User], plan: str, url: Callable[[str], str], env: Env, control: Control
) -> Subscribed:
    """A subscription that was cancelled and resumed within a second, and its update events, not delivered."""
    ann = user()
    session = post(url("checkout"), {"plan": plan, **PAGES}, **ann.headers(env)).json()["id"]
    control.complete(session)
    control.settled()
    stripe = env.stripe().v1
    subscription = str(stripe.checkout.sessions.retrieve(session).subscription)
    control.delivery("drop")
    known = {event["id"] for event in control.events()}
    stripe.subscriptions.update(subscription, {"cancel_at_period_end": True})
    stripe.subscriptions.update(subscription, {"cancel_at_period_end": False})
    events = [event for event in control.events("customer.subscription.updated") if event["id"] not in known]
    assert [event["data"]["object"]["cancel_at_period_end"] for event in events] == [True, False]
    return subscription, events


def cancel_at(db: Connection, subscription: str) -> Any:
    row = db.execute("select cancel_at from public.subscriptions where id = %s", [subscription]).fetchone()
    assert row
    return row[0]


def fetched(control: Control, subscription: str) -> int:
    """How often Stripe was asked for it."""
    path = f"/v1/subscriptions/{subscription}"
    return sum((request["method"], request["path"]) == ("GET", path) for request in control.requests())


def test_stripe_says_which_is_newer(
    subscribed: Subscribed, url: Callable[[str], str], env: Env, control: Control, db: Connection
) -> None:
    subscription, events = subscribed
    before = fetched(control, subscription)
    for event in reversed(events):
        answer = deliver(url("stripe-webhook"), event, env.stripe_webhook_secret)
        assert answer.status_code == 200, answer.text
    assert fetched(control, subscription) > before
    assert cancel_at(db, subscription) is None


def test_stripe_does_not_say(
    subscribed: Subscribed, url: Callable[[str], str], env: Env, control: Control, db: Connection
) -> None:
    """The event is kept all the same; the next sweep puts it right."""
    subscription, events = subscribed
    control.trouble(9, status=500)
    answer = deliver(url("stripe-webhook"), events[0], env.stripe_webhook_secret)
    assert answer.status_code == 200, answer.text
    control.trouble(0)
    assert cancel_at(db, subscription) is not None
    post(url("stripe-reconcile"), {"sweep": True}, apikey=env.secret_key)
    assert cancel_at(db, subscription) is None
