"""Subscriptions: the first invoice, renewals, prorations, trials, failures, pauses, ends."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import stripe

from scripts.local.stripe.control import Control
from scripts.local.stripe.subscriptions import after
from tests.support.local_stripe import JSON, checkout, item, subscribe

Since = Callable[[], list[str]]
CHARGED = [
    "payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "charge.updated",
    "invoice.paid", "invoice.payment_succeeded", "invoice_payment.paid",
]  # fmt: skip


def latest(client: stripe.StripeClient, subscription: str) -> stripe.Invoice:
    """The newest invoice."""
    return client.v1.invoices.list({"subscription": subscription, "limit": 1}).data[0]


def plan(client: stripe.StripeClient, amount: int) -> str:
    """A monthly price in dollars."""
    product = client.v1.products.create({"name": f"Plan {amount}"})
    return client.v1.prices.create(
        {"product": product.id, "currency": "usd", "unit_amount": amount, "recurring": {"interval": "month"}}
    ).id


def test_subscribing(client: stripe.StripeClient, control: Control, since: Since) -> None:
    subscription = subscribe(
        client, control, metadata={"a": "session"}, subscription_data={"metadata": {"a": "subscription"}}
    )
    assert since()[-12:] == [
        "invoice.created", "invoice.finalized", CHARGED[0], "customer.subscription.created",
        "customer.updated",
        *CHARGED[1:], "checkout.session.completed",
    ]  # fmt: skip
    invoice = latest(client, subscription.id)
    assert (invoice.billing_reason, invoice.status, invoice.amount_paid) == (
        "subscription_create",
        "paid",
        2000,
    )
    parent = invoice.parent
    assert parent and parent.subscription_details
    assert parent.subscription_details.subscription == subscription.id
    assert (
        parent.subscription_details.metadata and parent.subscription_details.metadata["a"] == "subscription"
    )
    (line,) = invoice.lines.data
    details = line.parent.subscription_item_details  # type: ignore[union-attr]
    assert details and not details.proration
    first = subscription["items"].data[0]
    assert (line.period.start, line.period.end) == (first.current_period_start, first.current_period_end)
    assert line.pricing and line.pricing.price_details and line.pricing.price_details.price == first.price.id


def test_the_payment_links_invoice_and_intent(client: stripe.StripeClient, control: Control) -> None:
    subscription = subscribe(client, control)
    invoice = latest(client, subscription.id)
    assert "payment_intent" not in invoice and "subscription" not in invoice
    (payment,) = client.v1.invoice_payments.list({"invoice": invoice.id}).data
    intent = str(payment.payment.payment_intent)
    assert (payment.status, payment.amount_paid) == ("paid", 2000)
    (found,) = client.v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": intent}}
    ).data
    assert found.id == payment.id
    assert client.v1.payment_intents.retrieve(intent).amount_received == 2000


def test_a_renewal_is_a_draft_for_an_hour(
    client: stripe.StripeClient, control: Control, since: Since
) -> None:
    subscription = subscribe(client, control)
    end = subscription["items"].data[0].current_period_end
    control.advance(seconds=end - control.now())
    assert since()[-2:] == ["invoice.created", "customer.subscription.updated"]
    draft = latest(client, subscription.id)
    assert (draft.status, draft.billing_reason, draft.period_end) == ("draft", "subscription_cycle", end)
    assert draft.lines.data[0].period.start == end
    control.advance(hours=1)
    assert since()[-8:] == ["invoice.finalized", *CHARGED]
    renewed = client.v1.subscriptions.retrieve(subscription.id)
    assert renewed["items"].data[0].current_period_start == end
    control.advance(days=370)
    assert len(client.v1.invoices.list({"subscription": subscription.id, "limit": 100}).data) == 14


@pytest.mark.parametrize(
    ("anchor", "start", "expected"),
    [("2026-01-31", "2026-01-31", "2026-02-28"), ("2026-01-31", "2026-02-28", "2026-03-31"),
     ("2026-11-30", "2026-12-30", "2027-01-30"), ("2028-01-31", "2028-01-31", "2028-02-29")],
)  # fmt: skip
def test_months_keep_their_day(anchor: str, start: str, expected: str) -> None:
    def seconds(day: str) -> int:
        return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())

    monthly = {"interval": "month", "interval_count": 1}
    assert after(seconds(anchor), seconds(start), monthly) == seconds(expected)


def test_an_upgrade_invoiced_at_once(client: stripe.StripeClient, control: Control, since: Since) -> None:
    subscription = subscribe(client, control, 1000)
    first = subscription["items"].data[0]
    half = (first.current_period_end - first.current_period_start) // 2
    control.advance(seconds=first.current_period_start + half - control.now())
    client.v1.subscriptions.update(
        subscription.id,
        {"items": [{"id": first.id, "price": plan(client, 3000)}], "proration_behavior": "always_invoice"},
    )
    invoice = latest(client, subscription.id)
    assert (invoice.billing_reason, invoice.status) == ("subscription_update", "paid")
    assert [line.amount for line in invoice.lines.data] == [-500, 1500]
    assert invoice.total == 1000
    # The clock goes on between the two calls.
    begins = invoice.lines.data[0].period.start
    assert 0 <= begins - (first.current_period_start + half) < 60
    for line in invoice.lines.data:
        details = line.parent.subscription_item_details  # type: ignore[union-attr]
        assert details and details.proration and details.subscription_item == first.id
        assert (line.period.start, line.period.end) == (begins, first.current_period_end)
    credited = invoice.lines.data[0].parent.subscription_item_details.proration_details.credited_items  # type: ignore[union-attr]
    assert credited and credited.invoice != invoice.id
    event = control.events("customer.subscription.updated")[-1]
    assert set(event["data"]["previous_attributes"]) == {"items", "latest_invoice"}


def test_an_upgrade_waits_for_the_renewal(client: stripe.StripeClient, control: Control) -> None:
    subscription = subscribe(client, control, 1000)
    first = subscription["items"].data[0]
    client.v1.subscriptions.update(
        subscription.id, {"items": [{"id": first.id, "price": plan(client, 3000), "quantity": 2}]}
    )
    assert latest(client, subscription.id).billing_reason == "subscription_create"
    control.advance(seconds=first.current_period_end + 3601 - control.now())
    invoice = latest(client, subscription.id)
    prorations = [line.parent.subscription_item_details.proration for line in invoice.lines.data]  # type: ignore[union-attr]
    assert prorations == [True, True, False]
    assert invoice.lines.data[2].amount == 6000
    assert (invoice.billing_reason, invoice.status) == ("subscription_cycle", "paid")
    control.advance(days=32)
    assert [line.amount for line in latest(client, subscription.id).lines.data] == [6000]


def test_a_downgrade_becomes_credit(client: stripe.StripeClient, control: Control) -> None:
    subscription = subscribe(client, control, 3000)
    client.v1.subscriptions.update(
        subscription.id,
        {"items": [{"id": subscription["items"].data[0].id, "price": plan(client, 1000)}],
         "proration_behavior": "always_invoice"},
    )  # fmt: skip
    invoice = latest(client, subscription.id)
    assert (invoice.amount_due, invoice.status) == (0, "paid")
    customer = client.v1.customers.retrieve(str(subscription.customer))
    assert customer.balance == invoice.total < 0
    control.advance(days=32)
    renewal = latest(client, subscription.id)
    assert renewal.amount_due == max(0, 1000 + invoice.total)


def test_a_trial(client: stripe.StripeClient, control: Control, since: Since) -> None:
    subscription = subscribe(client, control, subscription_data={"trial_period_days": 14})
    assert subscription.status == "trialing"
    invoice = latest(client, subscription.id)
    assert (invoice.amount_paid, invoice.status, len(invoice.lines.data)) == (0, "paid", 1)
    assert client.v1.invoice_payments.list({"invoice": invoice.id}).data == []
    control.advance(days=11)
    assert since()[-1] == "customer.subscription.trial_will_end"
    control.advance(days=3, hours=2)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "active"
    assert latest(client, subscription.id).amount_paid == 2000


def test_a_trial_without_a_card_pauses_and_resumes(
    client: stripe.StripeClient, control: Control, since: Since
) -> None:
    data: JSON = {
        "trial_period_days": 7,
            "trial_settings": {"end_behavior": {"missing_payment_method": "pause"}}}  # fmt: skip
    session = checkout(
        client, mode="subscription", line_items=[item(interval="month")], subscription_data=data,
        payment_method_collection="if_required",
    )  # fmt: skip
    done = control.complete(session.id, card=False)
    assert done["payment_status"] == "no_payment_required"
    control.advance(days=8)
    subscription = client.v1.subscriptions.retrieve(done["subscription"])
    assert (subscription.status, since()[-1]) == ("paused", "customer.subscription.paused")
    with pytest.raises(stripe.StripeError):
        client.v1.subscriptions.resume(subscription.id)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "paused"


def test_a_failed_renewal_is_past_due_and_recovers(
    client: stripe.StripeClient, control: Control, since: Since
) -> None:
    subscription = subscribe(client, control)
    control.fail_payments(1, customer=str(subscription.customer))
    end = subscription["items"].data[0].current_period_end
    control.advance(seconds=end + 3601 - control.now())
    assert since()[-3:] == ["invoice.updated", "invoice.payment_failed", "customer.subscription.updated"]
    assert client.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    failed = latest(client, subscription.id)
    assert (failed.status, failed.attempt_count) == ("open", 1)
    control.advance(days=3)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "active"
    assert latest(client, subscription.id).status == "paid"


def test_a_renewal_that_never_succeeds_cancels(
    client: stripe.StripeClient, control: Control, since: Since
) -> None:
    subscription = subscribe(client, control)
    control.fail_payments(9, customer=str(subscription.customer))
    control.advance(days=60)
    assert since().count("invoice.payment_failed") == 4
    ended = client.v1.subscriptions.retrieve(subscription.id)
    assert ended.cancellation_details
    assert (ended.status, ended.cancellation_details.reason) == ("canceled", "payment_failed")
    assert since()[-1] == "customer.subscription.deleted"


def test_a_declined_payment_is_a_card_error(client: stripe.StripeClient, control: Control) -> None:
    subscription = subscribe(client, control)
    control.fail_payments(2, customer=str(subscription.customer), reason="insufficient_funds")
    end = subscription["items"].data[0].current_period_end
    control.advance(seconds=end + 3601 - control.now())
    invoice = latest(client, subscription.id)
    with pytest.raises(stripe.CardError) as declined:
        client.v1.invoices.pay(invoice.id)
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    # The attempt is on record although the request failed.
    assert client.v1.invoices.retrieve(invoice.id).attempt_count == 2
    assert client.v1.invoices.pay(invoice.id).status == "paid"
    assert client.v1.subscriptions.retrieve(subscription.id).status == "active"


@pytest.mark.parametrize(
    ("behavior", "status"),
    [("void", "void"), ("mark_uncollectible", "uncollectible"), ("keep_as_draft", "draft")],
)
def test_paused_collection(client: stripe.StripeClient, control: Control, behavior: str, status: str) -> None:
    subscription = subscribe(client, control)
    client.v1.subscriptions.update(subscription.id, {"pause_collection": {"behavior": behavior}})
    control.advance(days=32)
    assert latest(client, subscription.id).status == status
    resumed = client.v1.subscriptions.update(subscription.id, {"pause_collection": ""})
    assert (resumed.status, resumed.pause_collection) == ("active", None)
    control.advance(days=31)
    assert latest(client, subscription.id).status == "paid"


def test_canceling_at_the_end_and_at_once(
    client: stripe.StripeClient, control: Control, since: Since
) -> None:
    subscription = subscribe(client, control)
    leaving = client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert leaving.status == "active"
    assert leaving.cancel_at == leaving["items"].data[0].current_period_end
    control.advance(days=31)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert since()[-1] == "customer.subscription.deleted"
    other = subscribe(client, control)
    assert client.v1.subscriptions.cancel(other.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.subscriptions.cancel(other.id)
    customer = str(other.customer)
    assert client.v1.subscriptions.list({"customer": customer}).data == []
    assert len(client.v1.subscriptions.list({"customer": customer, "status": "all"}).data) == 1


def test_a_coupon_repeats(client: stripe.StripeClient, control: Control) -> None:
    coupon = client.v1.coupons.create({"percent_off": 50, "duration": "repeating", "duration_in_months": 2})
    subscription = subscribe(client, control, discounts=[{"coupon": coupon.id}])
    control.advance(days=100)
    paid = [
        invoice.amount_paid for invoice in client.v1.invoices.list({"subscription": subscription.id}).data
    ]
    assert paid[::-1] == [1000, 1000, 2000, 2000]


def test_the_portal_cancels_and_switches(client: stripe.StripeClient, control: Control) -> None:
    subscription = subscribe(client, control, 1000)
    other = plan(client, 2500)
    portal = client.v1.billing_portal.sessions.create(
        {"customer": str(subscription.customer), "return_url": "https://shop.example/account"}
    )
    page = httpx.get(portal.url)
    assert "https://shop.example/account" in page.text
    assert re.search(rf'value="{other}"', page.text)
    form = {"do": "switch", "subscription": subscription.id, "price": other}
    assert "Done." in httpx.post(portal.url, data=form).text
    assert client.v1.subscriptions.retrieve(subscription.id)["items"].data[0].price.id == other
    httpx.post(portal.url, data={"do": "cancel", "subscription": subscription.id})
    assert client.v1.subscriptions.retrieve(subscription.id).cancel_at_period_end
    httpx.post(portal.url, data={"do": "keep", "subscription": subscription.id})
    assert client.v1.subscriptions.retrieve(subscription.id).cancel_at is None
    foreign = subscribe(client, control)
    assert httpx.post(portal.url, data={"do": "cancel", "subscription": foreign.id}).status_code == 404


def test_a_declined_first_payment_leaves_the_session_open(
    client: stripe.StripeClient, control: Control, since: Since
) -> None:
    session = checkout(client, mode="subscription", line_items=[item(interval="month")])
    before = since()
    control.fail_payments(1)
    assert "Your card was declined." in httpx.post(str(session.url), data={"do": "pay"}).text
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert since() == before
    assert control.complete(session.id)["status"] == "complete"


def test_an_upgrade_that_is_declined_changes_nothing(client: stripe.StripeClient, control: Control) -> None:
    subscription = subscribe(client, control, 1000)
    first = subscription["items"].data[0]
    control.fail_payments(1)
    with pytest.raises(stripe.CardError):
        client.v1.subscriptions.update(
            subscription.id,
            {
                "items": [{"id": first.id, "price": plan(client, 3000)}],
                "proration_behavior": "always_invoice",
                "payment_behavior": "error_if_incomplete",
            },
        )
    same = client.v1.subscriptions.retrieve(subscription.id)
    assert (same["items"].data[0].price.id, same.status) == (first.price.id, "active")
    assert latest(client, subscription.id).billing_reason == "subscription_create"


def test_a_portal_flow_is_for_a_subscription_that_runs(client: stripe.StripeClient, control: Control) -> None:
    mine, other = subscribe(client, control), subscribe(client, control)
    portal = client.v1.billing_portal.sessions

    def flow(kind: str, **more: Any) -> Any:
        params: Any = {"customer": str(mine.customer), "flow_data": {"type": kind, **more}}
        return portal.create(params).flow

    shown = flow("subscription_cancel", subscription_cancel={"subscription": mine.id})
    assert (shown.type, shown.subscription_cancel.subscription) == ("subscription_cancel", mine.id)
    for kind, more in (
        ("subscription_cancel", {}),
        ("subscription_cancel", {"subscription_cancel": {"subscription": other.id}}),
        ("subscription_update", {"subscription_update": {"subscription": "sub_none"}}),
        ("nonsense", {}),
    ):
        with pytest.raises(stripe.InvalidRequestError):
            flow(kind, **more)
    client.v1.subscriptions.cancel(mine.id)
    with pytest.raises(stripe.InvalidRequestError):
        flow("subscription_update", subscription_update={"subscription": mine.id})
    assert flow("payment_method_update").type == "payment_method_update"
