"""Buying: the session's life, the page that a person sees, refunds and disputes after it."""

import re
from collections.abc import Callable

import httpx
import pytest
import stripe

from scripts.local.stripe.control import Control, ControlError
from tests.support.local_stripe import Standin, WebhookReceiver, checkout, item

Since = Callable[[], list[str]]
PAID = [
    "payment_intent.created",
    "charge.succeeded",
    "payment_intent.succeeded",
    "charge.updated",
    "checkout.session.completed",
]


def buy(client: stripe.StripeClient, control: Control, amount: int = 1000) -> str:
    """A paid purchase; returns the payment intent."""
    return str(control.complete(checkout(client, line_items=[item(amount)]).id)["payment_intent"])


def test_paid_by_card(client: stripe.StripeClient, control: Control, since: Since) -> None:
    session = checkout(
        client, metadata={"account": "a1"}, payment_intent_data={"metadata": {"account": "a1"}},
        client_reference_id="ref-1",
    )  # fmt: skip
    assert (session.status, session.payment_status, session.payment_intent) == ("open", "unpaid", None)
    control.complete(session.id)
    assert since()[-5:] == PAID
    done = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]})
    assert (done.status, done.payment_status, done.url, done.client_reference_id) == (
        "complete",
        "paid",
        None,
        "ref-1",
    )
    assert done.payment_intent.metadata["account"] == "a1"  # type: ignore[union-attr]
    assert done.metadata and done.metadata["account"] == "a1"
    found = client.v1.checkout.sessions.list({"payment_intent": done.payment_intent.id})  # type: ignore
    assert [each.id for each in found.data] == [session.id]
    with pytest.raises(ControlError, match="only an open one"):
        control.complete(session.id)


@pytest.mark.parametrize("success", [True, False])
def test_paid_later(client: stripe.StripeClient, control: Control, since: Since, success: bool) -> None:
    session = checkout(client)
    assert control.complete(session.id, delayed=True)["payment_status"] == "unpaid"
    assert since()[-1] == "checkout.session.completed"
    assert control.finish_delayed(session.id, success)["payment_status"] == ("paid" if success else "unpaid")
    assert since()[-1] == f"checkout.session.async_payment_{'succeeded' if success else 'failed'}"
    with pytest.raises(ControlError):
        control.finish_delayed(session.id, success)


def test_declined_then_paid_uses_one_intent(
    client: stripe.StripeClient, control: Control, since: Since
) -> None:
    session = checkout(client)
    declined = control.decline(session.id, "insufficient_funds")
    assert (declined["status"], since()[-1]) == ("open", "payment_intent.payment_failed")
    intent = client.v1.payment_intents.retrieve(declined["payment_intent"])
    assert intent.last_payment_error and intent.last_payment_error.decline_code == "insufficient_funds"
    assert control.complete(session.id)["payment_intent"] == intent.id
    charges = client.v1.charges.list({"payment_intent": intent.id})
    assert [charge.status for charge in charges.data] == ["succeeded", "failed"]


def test_abandoned_expires_after_a_day(client: stripe.StripeClient, control: Control, since: Since) -> None:
    session = checkout(client)
    control.advance(hours=23)
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"
    control.advance(hours=1)
    assert client.v1.checkout.sessions.retrieve(session.id).status == "expired"
    assert since()[-1] == "checkout.session.expired"
    other = checkout(client)
    assert client.v1.checkout.sessions.expire(other.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.checkout.sessions.expire(other.id)


def test_a_promotion_code_of_100_percent_needs_no_payment(
    client: stripe.StripeClient, control: Control, since: Since
) -> None:
    coupon = client.v1.coupons.create({"percent_off": 100, "duration": "once"})
    client.v1.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": coupon.id}, "code": "FREE", "max_redemptions": 1}
    )
    session = checkout(client, allow_promotion_codes=True)
    done = control.complete(session.id, code="free")
    assert (done["payment_status"], done["amount_total"], done["payment_intent"]) == (
        "no_payment_required",
        0,
        None,
    )
    assert since()[-1] == "checkout.session.completed"
    with pytest.raises(ControlError, match="invalid"):
        control.complete(checkout(client, allow_promotion_codes=True).id, code="FREE")


def test_zero_decimal_currencies(client: stripe.StripeClient, control: Control, standin: Standin) -> None:
    session = checkout(client, line_items=[item(500, "jpy", 3)])
    assert (session.amount_total, session.currency) == (1500, "jpy")
    page = httpx.get(str(session.url)).text
    assert "¥1,500" in page
    done = control.complete(session.id)
    assert client.v1.payment_intents.retrieve(done["payment_intent"]).amount_received == 1500
    with pytest.raises(stripe.InvalidRequestError, match="at least"):
        checkout(client, line_items=[item(49, "jpy")])


# -- the page --------------------------------------------------------------------------------------


def test_the_page_shows_and_pays(
    client: stripe.StripeClient, shop: WebhookReceiver, control: Control
) -> None:
    session = checkout(client, line_items=[item(1799, quantity=2)], allow_promotion_codes=True)
    with httpx.Client(trust_env=False) as browser:
        page = browser.get(str(session.url))
        assert "$35.98" in page.text
        assert "Starter &lt;pack&gt;" in page.text
        assert "<pack>" not in page.text
        bad = browser.post(str(session.url), data={"do": "code", "code": "<script>"})
        assert "This code is invalid" in bad.text
        declined = browser.post(str(session.url), data={"do": "decline", "reason": "lost_card"})
        assert "Your card was declined." in declined.text
        assert (
            browser.post(str(session.url), data={"do": "abandon"}).headers["location"]
            == "https://shop.example/no"
        )
        paid = browser.post(str(session.url), data={"do": "pay", "email": "me@example.com"})
        assert (paid.status_code, paid.headers["location"]) == (
            303,
            f"https://shop.example/ok?s={session.id}",
        )
        assert (
            "complete"
            in browser.get(str(session.url)).status_code.__str__() + browser.get(str(session.url)).text
        )
        again = browser.post(str(session.url), data={"do": "pay"})
        assert again.status_code == 200
    details = client.v1.checkout.sessions.retrieve(session.id).customer_details
    assert details and details.email == "me@example.com"
    control.settled()
    assert shop.types().count("checkout.session.completed") == 1


def test_the_page_pays_later_and_changes_quantities(client: stripe.StripeClient, control: Control) -> None:
    line = {**item(500), "adjustable_quantity": {"enabled": True, "minimum": 1, "maximum": 5}}
    session = checkout(client, line_items=[line])
    url = str(session.url)
    found = re.search(r'name="item" value="(\w+)"', httpx.get(url).text)
    assert found
    assert (
        "Choose from 1 to 5"
        in httpx.post(url, data={"do": "quantity", "item": found[1], "quantity": "6"}).text
    )
    assert "$20.00" in httpx.post(url, data={"do": "quantity", "item": found[1], "quantity": "4"}).text
    assert httpx.post(url, data={"do": "later"}).status_code == 303
    done = client.v1.checkout.sessions.retrieve(session.id)
    assert (done.amount_total, done.status, done.payment_status) == (2000, "complete", "unpaid")
    assert httpx.get(url.replace("cs_test", "cs_none")).status_code == 404


# -- refunds ---------------------------------------------------------------------------------------


def test_refunds_in_parts_never_exceed_the_charge(
    client: stripe.StripeClient, control: Control, since: Since
) -> None:
    intent = buy(client, control, 1000)
    client.v1.refunds.create({"payment_intent": intent, "amount": 300, "reason": "requested_by_customer"})
    assert since()[-2:] == ["refund.created", "charge.refunded"]
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
        client.v1.refunds.create({"payment_intent": intent, "amount": 701})
    rest = client.v1.refunds.create({"payment_intent": intent})
    assert (rest.amount, rest.status) == (700, "succeeded")
    charge = client.v1.charges.retrieve(str(rest.charge))
    assert (charge.refunded, charge.amount_refunded) == (True, 1000)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent})
    assert refused.value.code == "charge_already_refunded"
    assert [each.amount for each in client.v1.refunds.list({"payment_intent": intent}).data] == [700, 300]


def test_a_refund_that_fails_later(client: stripe.StripeClient, control: Control, since: Since) -> None:
    refund = client.v1.refunds.create({"payment_intent": buy(client, control), "amount": 400})
    control.settle_refund(refund.id, success=False)
    failed = client.v1.refunds.retrieve(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    assert client.v1.charges.retrieve(str(refund.charge)).amount_refunded == 0
    assert since()[-4:] == ["refund.updated", "charge.refund.updated", "refund.failed", "charge.updated"]


def test_a_pending_refund_can_be_canceled(client: stripe.StripeClient, control: Control) -> None:
    session = checkout(client)
    done = control.complete(session.id, delayed=True)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.create({"payment_intent": done["payment_intent"]})
    control.finish_delayed(session.id)
    refund = client.v1.refunds.create({"payment_intent": done["payment_intent"]})
    assert refund.status == "pending"
    assert client.v1.refunds.cancel(refund.id).status == "canceled"
    assert client.v1.charges.retrieve(str(refund.charge)).amount_refunded == 0


# -- disputes --------------------------------------------------------------------------------------


def test_a_dispute_won(client: stripe.StripeClient, control: Control, since: Since) -> None:
    intent = buy(client, control)
    dispute = control.dispute(intent)
    assert since()[-3:] == ["charge.dispute.created", "charge.updated", "charge.dispute.funds_withdrawn"]
    assert [each["amount"] for each in dispute["balance_transactions"]] == [-1000]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent})
    assert refused.value.code == "charge_disputed"
    answered = client.v1.disputes.update(dispute["id"], {"evidence": {"uncategorized_text": "It was used."}})
    assert answered.status == "under_review"
    won = control.move_dispute(dispute["id"], "win")
    assert (won["status"], sum(each["amount"] for each in won["balance_transactions"])) == ("won", 0)
    assert since()[-3:] == [
        "charge.dispute.updated", "charge.dispute.closed", "charge.dispute.funds_reinstated"]  # fmt: skip


def test_a_dispute_lost_and_one_given_in(client: stripe.StripeClient, control: Control, since: Since) -> None:
    dispute = control.dispute(buy(client, control), 600)
    assert control.move_dispute(dispute["id"], "lose")["status"] == "lost"
    assert since()[-1] == "charge.dispute.closed"
    with pytest.raises(ControlError, match="already closed"):
        control.move_dispute(dispute["id"], "win")
    other = control.dispute(buy(client, control))
    assert client.v1.disputes.close(other["id"]).status == "lost"
    with pytest.raises(ControlError, match="cannot be disputed"):
        control.dispute(buy(client, control), 1001)


def test_an_inquiry_takes_no_money_until_it_escalates(
    client: stripe.StripeClient, control: Control, since: Since
) -> None:
    inquiry = control.dispute(buy(client, control), inquiry=True)
    assert (inquiry["status"], inquiry["balance_transactions"]) == ("warning_needs_response", [])
    assert "charge.dispute.funds_withdrawn" not in since()
    assert control.move_dispute(inquiry["id"], "close")["status"] == "warning_closed"
    other = control.dispute(buy(client, control), inquiry=True)
    client.v1.refunds.create({"charge": other["charge"], "amount": 100})
    assert control.move_dispute(other["id"], "escalate")["status"] == "needs_response"
    assert since()[-2:] == ["charge.dispute.updated", "charge.dispute.funds_withdrawn"]
    assert control.move_dispute(other["id"], "lose")["status"] == "lost"


def test_taxes_of_a_customer_that_is_there(client: stripe.StripeClient) -> None:
    """What the page collects has to be kept with the customer; Stripe insists on being told so."""
    customer = client.v1.customers.create({"email": "tax@example.com"}).id
    for name, keep in (("automatic_tax", "address"), ("tax_id_collection", "name")):
        with pytest.raises(stripe.InvalidRequestError, match=f"customer_update.{keep}"):
            checkout(client, customer=customer, **{name: {"enabled": True}})
        session = checkout(
            client, customer=customer, **{name: {"enabled": True}}, customer_update={keep: "auto"}
        )
        assert session[name]["enabled"] is True
    with pytest.raises(stripe.InvalidRequestError, match="customer"):
        checkout(client, customer_update={"name": "auto"})
