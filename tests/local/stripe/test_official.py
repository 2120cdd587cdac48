"""Objects, events and requests against Stripe's official description."""

import re
from typing import Any

import httpx
import pytest
import stripe

from scripts.local.stripe.control import Control
from tests.support.local_stripe import KEY, Standin, checkout, item, subscribe
from tests.support.official import check_event, check_object, check_request, check_requests, needs_spec

pytestmark = needs_spec

# What the life cycles below have to have produced, so that the check is not of little.
WANTED = [
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.dispute.funds_reinstated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.updated",
    "charge.failed",
    "charge.pending",
    "charge.refund.updated",
    "charge.refunded",
    "charge.succeeded",
    "charge.updated",
    "checkout.session.async_payment_failed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.completed",
    "checkout.session.expired",
    "coupon.created",
    "customer.created",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.trial_will_end",
    "customer.subscription.updated",
    "customer.updated",
    "invoice.created",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_succeeded",
    "invoice.updated",
    "invoice.voided",
    "invoice_payment.paid",
    "payment_intent.canceled",
    "payment_intent.created",
    "payment_intent.payment_failed",
    "payment_intent.processing",
    "payment_intent.succeeded",
    "payment_method.attached",
    "price.created",
    "product.created",
    "promotion_code.created",
    "radar.early_fraud_warning.created",
    "refund.created",
    "refund.failed",
    "refund.updated",
    "billing_portal.session.created",
]


def payments(client: stripe.StripeClient, control: Control) -> None:
    """Purchases, in every way that one can go."""
    coupon = client.v1.coupons.create({"amount_off": 100, "currency": "usd", "duration": "once"})
    client.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}, "code": "OFF-1"})
    line = {**item(900, quantity=2), "adjustable_quantity": {"enabled": True, "maximum": 9}}
    first = checkout(client, allow_promotion_codes=True, line_items=[line], customer_creation="always")
    control.decline(first.id)
    paid = control.complete(first.id, code="OFF-1")
    refund = client.v1.refunds.create({"payment_intent": paid["payment_intent"], "amount": 100})
    control.settle_refund(refund.id)
    for success in (True, False):
        later = checkout(client)
        control.complete(later.id, delayed=True)
        control.finish_delayed(later.id, success)
    client.v1.refunds.create({"payment_intent": control.complete(checkout(client).id)["payment_intent"]})
    customer = client.v1.customers.create({"email": "tax@example.com"})
    expiring = checkout(
        client, customer=customer.id, currency="usd", automatic_tax={"enabled": True},
        tax_id_collection={"enabled": True}, customer_update={"address": "auto", "name": "auto"},
    )  # fmt: skip
    control.decline(expiring.id)
    control.expire(expiring.id)
    for ending in ("win", "lose"):
        dispute = control.dispute(
            control.complete(checkout(client).id)["payment_intent"], inquiry=ending == "win"
        )
        if ending == "win":
            control.move_dispute(dispute["id"], "escalate")
            client.v1.disputes.update(dispute["id"], {"evidence": {"product_description": "Credits"}})
        control.move_dispute(dispute["id"], ending)
    for prevented in ("block", "resolve"):
        for inquiry in (False, True):
            payment = control.complete(checkout(client).id)["payment_intent"]
            control.warn_of_fraud(payment)
            control.move_dispute(control.dispute(payment, inquiry=inquiry)["id"], prevented)


def subscriptions(client: stripe.StripeClient, control: Control) -> None:
    """Subscriptions: trial, upgrade, downgrade, failures, pauses, ends."""
    product = client.v1.products.create({"name": "Pro"})
    price = client.v1.prices.create(
        {"product": product.id, "currency": "usd", "unit_amount": 5000, "recurring": {"interval": "month"}}
    )
    coupon = client.v1.coupons.create({"percent_off": 12.5, "duration": "once"})
    first = subscribe(client, control, discounts=[{"coupon": coupon.id}])
    for target in (price.id, first["items"].data[0].price.id):
        if target == price.id or client.v1.prices.retrieve(target).active:
            client.v1.subscriptions.update(
                first.id,
                {"items": [{"id": first["items"].data[0].id, "price": target}],
                 "proration_behavior": "always_invoice", "metadata": {"k": "v"}},
            )  # fmt: skip
    client.v1.subscriptions.update(first.id, {"items": [{"id": first["items"].data[0].id, "quantity": 3}]})
    control.fail_payments(1, customer=str(first.customer))
    control.advance(days=40)
    for behavior in ("void", "mark_uncollectible", "keep_as_draft"):
        client.v1.subscriptions.update(first.id, {"pause_collection": {"behavior": behavior}})
        control.advance(days=31)
    client.v1.billing_portal.sessions.create({"customer": str(first.customer)})
    flows: Any = (
        {"type": "payment_method_update"},
        {"type": "subscription_update", "subscription_update": {"subscription": first.id}},
        {"type": "subscription_cancel", "subscription_cancel": {"subscription": first.id},
         "after_completion": {"type": "redirect", "redirect": {"return_url": "https://shop.example/"}}},
    )  # fmt: skip
    for flow in flows:
        client.v1.billing_portal.sessions.create({"customer": str(first.customer), "flow_data": flow})
    client.v1.subscriptions.update(first.id, {"cancel_at_period_end": True})
    client.v1.customers.delete(str(first.customer))
    trial: Any = {
        "trial_period_days": 10,
            "trial_settings": {"end_behavior": {"missing_payment_method": "pause"}}}  # fmt: skip
    session = checkout(
        client, mode="subscription", line_items=[item(interval="month")], subscription_data=trial,
        payment_method_collection="if_required",
    )  # fmt: skip
    control.complete(session.id, card=False)
    failing = subscribe(client, control)
    control.fail_payments(4, customer=str(failing.customer))
    control.advance(days=60)


def test_everything_that_is_told_is_as_stripe_describes_it(
    standin: Standin, client: stripe.StripeClient, control: Control
) -> None:
    control.webhook_url(None)  # nobody needs to hear of all this
    before, logged = control.last_event(), (control.requests() or [{"seq": 0}])[-1]["seq"]
    payments(client, control)
    subscriptions(client, control)

    events = control.events(after=before)
    for event in events:
        check_event(event)
    assert set(WANTED) - {event["type"] for event in events} == set()

    expands = {
        "checkout/sessions": ["data.line_items", "data.payment_intent", "data.customer"],
        "invoices": ["data.payments", "data.customer"], "subscriptions": ["data.latest_invoice"],
        "charges": ["data.balance_transaction", "data.refunds"], "customers": ["data.subscriptions"],
    }  # fmt: skip
    with httpx.Client(base_url=standin.base, auth=(KEY, ""), trust_env=False) as plain:
        for kind in (
            "customers", "products", "prices", "promotion_codes", "checkout/sessions", "payment_intents",
            "charges",
            "refunds", "disputes", "radar/early_fraud_warnings", "invoices", "invoice_payments",
            "subscriptions", "events",
        ):  # fmt: skip
            listed = plain.get(f"/v1/{kind}", params={"limit": 100, "expand[]": expands.get(kind, [])}).json()
            assert listed["data"], kind
            check_object(listed)
            check_object(plain.get(f"/v1/{kind}/{listed['data'][0]['id']}").json())
        for event in events:
            if event["type"] == "invoice.created":
                check_object(plain.get(f"/v1/invoices/{event['data']['object']['id']}/lines").json())
        for query in ("customers/cus_none", "nonsense", "customers?limit=x"):
            answer = plain.get(f"/v1/{query}").json()
            assert set(answer) == {"error"} and answer["error"]["type"] == "invalid_request_error"
    assert check_requests(control.requests(after=logged)) > 50


def test_what_we_accept_stripe_accepts(control: Control) -> None:
    """Every parameter of every endpoint of the stand-in is one of Stripe's, at its place."""
    from scripts.local.stripe import app  # noqa: F401 - registers the routes
    from scripts.local.stripe.routes import ROUTES
    from tests.support.official import _body_schema, _operation

    for route in ROUTES:
        path = re.sub(r"\{\w+\}", "x_1", route.path)
        known = set(_body_schema(route.method, path).get("properties", {}))
        if route.method == "GET":
            known = {
                each["name"] for each in _operation("GET", path)[1]["parameters"] if each["in"] == "query"
            }
        assert set(route.fields) <= known, f"{route.method} {route.path}: {sorted(set(route.fields) - known)}"


def test_the_check_finds_what_is_wrong(client: stripe.StripeClient, control: Control) -> None:
    control.complete(checkout(client).id)
    event = control.events("checkout.session.completed")[-1]
    check_event(event)
    session = event["data"]["object"]
    for wrong in (
        {**session, "amount_total": "499"}, {**session, "payment_status": "maybe"}, {**session,
        "colour": "red"},
        {name: value for name, value in session.items() if name != "livemode"}, {**session, "mode": None},
        {**session, "total_details": {"amount_discount": 0}}, {**session, "object": "nonsense"},
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            check_object(wrong)
    with pytest.raises(AssertionError, match="no event type"):
        check_event({**event, "type": "checkout.session.finished"})
    with pytest.raises(AssertionError, match="previous_attributes"):
        check_event({**event, "data": {**event["data"], "previous_attributes": {"colour": "red"}}})


@pytest.mark.parametrize(
    ("method", "path", "form"),
    [
        ("POST", "/v1/checkout/sessions", {"nonsense": "1"}),
        ("POST", "/v1/checkout/sessions", {"mode": "gift"}),
        ("POST", "/v1/checkout/sessions", {"line_items": [{"quantity": "two"}]}),
        ("POST", "/v1/checkout/sessions", {"line_items": [{"price_data": {"unit_amount": 499}}]}),
        ("POST", "/v1/checkout/sessions", {"payment_intent_data": {"colour": "red"}}),
        ("POST", "/v1/refunds", {"amount": 1.5}),
        ("GET", "/v1/events", {"types": "charge.refunded"}),
        ("GET", "/v1/events", {"since": "1"}),
        ("POST", "/v1/nonsense", {}),
    ],
)
def test_the_check_of_requests_finds_what_is_wrong(method: str, path: str, form: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check_request(method, path, form)
    check_request("POST", "/v1/refunds", {"amount": 1, "payment_intent": "pi_1", "metadata": {"a": "b"}})
    check_request("GET", "/v1/events", {"types": ["charge.refunded"], "created": {"gte": 1}, "limit": 3})
