"""Invoices of subscriptions: draft, open, paid; payment attempts; what links an invoice to its payment.

A renewal's invoice is a draft for an hour, then it is finalized and charged. A charge that fails is tried
again after 3, 5 and 7 days; then the subscription is canceled.
"""

from typing import Any

from . import payments
from .catalog import discounted
from .errors import JSON, ApiError
from .params import PAGE, boolean, integer, metadata, one_of, record, text
from .routes import route
from .world import DAY, DUE, World, merged, new_id, page, refuse

HOUR = 3600
RETRY_AFTER = (3 * DAY, 5 * DAY, 7 * DAY)


def _due(invoice: JSON) -> int | None:
    if invoice["status"] == "draft" and invoice["auto_advance"]:
        return int(invoice["automatically_finalizes_at"])
    if invoice["status"] == "open":
        at: int | None = invoice["next_payment_attempt"]
        return at
    return None


DUE["invoice"] = _due


def line(
    subscription: JSON, item: JSON, amount: int, quantity: int, price: JSON, start: int, end: int, text: str,
    invoice_item: str | None = None, credited: JSON | None = None,
) -> JSON:  # fmt: skip
    """A line of an invoice. One that an invoice item made is a proration. `amount` in minor units."""
    proration = invoice_item is not None
    return {
        "id": new_id("il_"),
        "object": "line_item",
        "amount": amount,
        "currency": price["currency"],
        "description": text,
        "discount_amounts": [],
        "discountable": not proration,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": subscription["metadata"],
        "parent": {
            "type": "subscription_item_details",
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": invoice_item,
                "proration": proration,
                "proration_details": {"credited_items": credited},
                "subscription": subscription["id"],
                "subscription_item": item["id"],
            },
        },
        "period": {"start": start, "end": end},
        "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details",
            "price_details": {"price": price["id"], "product": price["product"]},
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": quantity,
        "subscription": subscription["id"],
        "subtotal": amount,
        "taxes": [],
    }


def create_invoice(
    world: World, subscription: JSON, reason: str, lines: list[JSON], start: int, end: int
) -> JSON:
    """A draft. `start` and `end` are the period that has just ended, as Stripe tells it."""
    customer = world.get("customer", subscription["customer"])
    invoice_id = new_id("in_")
    discounts = [
        discount for discount in map(world.store.get, subscription["discounts"])
        if discount and (discount["end"] is None or discount["end"] > world.now())
    ]  # fmt: skip
    off_total: list[JSON] = []
    open_lines = [each for each in lines if each["discountable"]]
    for discount in discounts:
        coupon = world.get("coupon", discount["source"]["coupon"])
        offs = discounted([each["amount"] for each in open_lines], coupon)
        for each, off in zip(open_lines, offs, strict=True):
            each["discount_amounts"].append({"amount": off, "discount": discount["id"]})
        off_total.append({"amount": sum(offs), "discount": discount["id"]})
        if coupon["duration"] == "once" and sum(offs):
            world.change(discount, None, end=world.now())
    for each in lines:
        each["invoice"] = invoice_id
    subtotal = sum(each["amount"] for each in lines)
    total = subtotal - sum(each["amount"] for each in off_total)
    now = world.now()
    invoice: JSON = {
        "id": invoice_id,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Local Stripe",
        "account_tax_ids": None,
        "amount_due": max(total, 0),
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_paid_off_stripe": 0,
        "amount_remaining": max(total, 0),
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "enabled": False, "disabled_reason": None, "liability": None, "provider": None, "status": None},
        "automatically_finalizes_at": now + HOUR,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": now,
        "currency": subscription["currency"],
        "custom_fields": None,
        "customer": customer["id"],
        "customer_address": None,
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": None,
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [discount["id"] for discount in discounts],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": page(lines, f"/v1/invoices/{invoice_id}/lines"),
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "parent": {
            "type": "subscription_details",
            "quote_details": None,
            "subscription_details": {
                "metadata": subscription["metadata"], "subscription": subscription["id"]},
        },
        "payment_settings": {
            "default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "period_end": end,
        "period_start": start,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": customer["balance"],
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None, "marked_uncollectible_at": None, "paid_at": None, "voided_at": None},
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal,
        "test_clock": None,
        "total": total,
        "total_discount_amounts": off_total,
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": now,
        "_subscription": subscription["id"],
    }  # fmt: skip
    return world.create(invoice, "invoice.created")


def finalize(world: World, invoice: JSON) -> JSON:
    """Make it final: number, the customer's balance applied, and a payment intent when money is due."""
    customer = world.get("customer", invoice["customer"])
    starting, total = customer["balance"], invoice["total"]
    # A balance below zero is credit of the customer's; a total below zero adds to it.
    ending = starting + total if total < 0 else min(starting + total, 0) if starting < 0 else starting
    due = max(total + min(starting, 0), 0) if total > 0 else 0
    if ending != starting:
        world.change(customer, "customer.updated", balance=ending)
    number = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04}"
    world.change(customer, None, next_invoice_sequence=customer["next_invoice_sequence"] + 1)
    now = world.now()
    invoice.update(
        status="open", number=number, amount_due=due, amount_remaining=due, starting_balance=starting,
        ending_balance=ending, effective_at=now, automatically_finalizes_at=None,
        hosted_invoice_url=f"{world.base_url}/invoices/{invoice['id']}",
        invoice_pdf=f"{world.base_url}/invoices/{invoice['id']}/pdf",
        status_transitions={**invoice["status_transitions"], "finalized_at": now},
    )  # fmt: skip
    world.create(invoice, "invoice.finalized")
    if due:
        intent = payments.create_intent(
            world, due, invoice["currency"], invoice["customer"], None,
            description="Subscription payment", setup_future_usage="off_session",
        )  # fmt: skip
        _create_payment(world, invoice, intent)
    return invoice


def _create_payment(world: World, invoice: JSON, intent: JSON) -> JSON:
    return world.create(
        {
            "id": new_id("inpay_"), "object": "invoice_payment", "amount_paid": None,
            "amount_requested": invoice["amount_due"], "created": world.now(),
            "currency": invoice["currency"],
            "invoice": invoice["id"], "is_default": True, "livemode": False,
            "payment": {"type": "payment_intent", "payment_intent": intent["id"]}, "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None}, "_intent": intent["id"],
        }
    )  # fmt: skip


def payment_of(world: World, invoice: JSON) -> JSON:
    """The invoice's default payment. An invoice of nothing has none."""
    return world.store.find("invoice_payment", invoice=invoice["id"])[0]


def collect(world: World, invoice: JSON, method_id: str | None) -> JSON | None:
    """Try to charge an open invoice. Returns the error when the bank declined it."""
    if invoice["amount_due"] == 0:
        _paid(world, invoice)
        return None
    payment = payment_of(world, invoice)
    intent = world.get("payment_intent", payment["payment"]["payment_intent"])
    method = world.store.get(method_id) if method_id else None
    attempts = {"attempt_count": invoice["attempt_count"] + 1, "attempted": True}
    reason = payments.declined_next(world, invoice["customer"])
    if method is None or reason:
        error: JSON = (
            payments.decline(world, intent, method, reason)
            if method and reason
            else {"type": "invalid_request_error", "message": "There is no payment method to charge."}
        )
        count = attempts["attempt_count"]
        retry = world.now() + RETRY_AFTER[count - 1] if count <= len(RETRY_AFTER) else None
        world.change(
            invoice, "invoice.updated", **attempts, next_payment_attempt=retry, auto_advance=bool(retry)
        )
        world.emit("invoice.payment_failed", invoice)
        return error
    charge = payments.succeed(world, intent, method)
    world.change(invoice, None, **attempts)
    _paid(world, invoice)
    world.change(
        payment, "invoice_payment.paid", status="paid", amount_paid=charge["amount"],
        status_transitions={"canceled_at": None, "paid_at": world.now()},
    )  # fmt: skip
    return None


def _paid(world: World, invoice: JSON) -> None:
    invoice.update(
        status="paid", amount_paid=invoice["amount_due"], amount_remaining=0, attempted=True,
        auto_advance=False,
        next_payment_attempt=None,
        status_transitions={**invoice["status_transitions"], "paid_at": world.now()},
    )  # fmt: skip
    world.create(invoice, "invoice.paid")
    world.emit("invoice.payment_succeeded", invoice)


def close(world: World, invoice: JSON, status: str, event: str, stamp: str) -> None:
    """End an invoice unpaid: void or uncollectible."""
    for payment in world.store.find("invoice_payment", invoice=invoice["id"]):
        intent = world.get("payment_intent", payment["payment"]["payment_intent"])
        if status == "void":
            world.change(
                intent, "payment_intent.canceled",
                status="canceled", canceled_at=world.now(), cancellation_reason="void_invoice",
            )  # fmt: skip
            transitions = {"canceled_at": world.now(), "paid_at": None}
            world.change(payment, None, status="canceled", status_transitions=transitions)
    invoice.update(
        status=status, auto_advance=False, next_payment_attempt=None,
        status_transitions={**invoice["status_transitions"], stamp: world.now()},
    )  # fmt: skip
    world.create(invoice, event)


# -- endpoints -------------------------------------------------------------------------------------


@route("GET", "/v1/invoices/{invoice}")
def retrieve(world: World, p: JSON, invoice: str) -> JSON:
    """Retrieve."""
    return world.get("invoice", invoice)


@route("GET", "/v1/invoices", {
    **PAGE, "customer": text(), "subscription": text(),
    "status": one_of("draft", "open", "paid", "uncollectible", "void"),
    "collection_method": one_of("charge_automatically", "send_invoice"),
})  # fmt: skip
def list_all(world: World, p: JSON) -> JSON:
    """List."""
    where: dict[str, Any] = {"_subscription": p["subscription"]} if p.get("subscription") else {}
    return world.listing("invoice", "/v1/invoices", p, ["customer", "status", "collection_method"], **where)


@route("GET", "/v1/invoices/{invoice}/lines",
       {"limit": integer(1, 100), "starting_after": text(), "ending_before": text()})  # fmt: skip
def lines(world: World, p: JSON, invoice: str) -> JSON:
    """The lines of one invoice, in their order."""
    return slice_of(world.get("invoice", invoice)["lines"]["data"], f"/v1/invoices/{invoice}/lines", p)


def slice_of(items: list[JSON], url: str, p: JSON) -> JSON:
    """A page of a list that is held in memory, in its own order."""
    ids, limit = [item["id"] for item in items], p.get("limit", 10)
    for name in ("starting_after", "ending_before"):
        if p.get(name) and p[name] not in ids:
            raise ApiError(f"No such object: '{p[name]}'", code="resource_missing", param=name)
    if p.get("ending_before"):
        before = items[: ids.index(p["ending_before"])]
        return page(before[-limit:], url, len(before) > limit)
    rest = items[ids.index(p["starting_after"]) + 1 :] if p.get("starting_after") else items
    return page(rest[:limit], url, len(rest) > limit)


@route(
    "POST", "/v1/invoices/{invoice}", {"metadata": metadata, "auto_advance": boolean, "description": text()}
)
def update(world: World, p: JSON, invoice: str) -> JSON:
    """Update."""
    found = world.get("invoice", invoice)
    changes = {name: p[name] for name in ("auto_advance", "description") if name in p}
    return world.change(
        found, "invoice.updated", **changes, metadata=merged(found["metadata"], p.get("metadata"))
    )


@route("POST", "/v1/invoices/{invoice}/finalize", {"auto_advance": boolean})
def finalize_now(world: World, p: JSON, invoice: str) -> JSON:
    """Finalize a draft."""
    found = world.get("invoice", invoice)
    if found["status"] != "draft":
        raise refuse(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
            "invoice_not_editable",
        )
    return finalize(world, found)


@route("POST", "/v1/invoices/{invoice}/pay")
def pay(world: World, p: JSON, invoice: str) -> JSON:
    """Charge it now. A declined card is a card_error, status 402."""
    from .subscriptions import after_payment

    found = world.get("invoice", invoice)
    if found["status"] == "draft":
        finalize(world, found)
    if found["status"] != "open":
        raise refuse(f"Invoice is already {found['status']}.", "invoice_already_paid")
    subscription = world.get("subscription", found["_subscription"])
    error = collect(world, found, subscription["default_payment_method"])
    after_payment(world, subscription, found, error is None)
    if error:
        details = {name: value for name, value in error.items() if name not in ("message", "type", "code")}
        raise ApiError(
            error["message"], status=402, kind=error["type"], code=error.get("code"), keep=True, **details
        )
    return found


@route("POST", "/v1/invoices/{invoice}/void")
def void(world: World, p: JSON, invoice: str) -> JSON:
    """Void an open invoice."""
    found = world.get("invoice", invoice)
    if found["status"] not in ("open", "uncollectible"):
        raise refuse(f"You can only void open or uncollectible invoices; this one is {found['status']}.")
    close(world, found, "void", "invoice.voided", "voided_at")
    return found


PAYMENT = record({"type": one_of("payment_intent", "payment_record"), "payment_intent": text()})


@route("GET", "/v1/invoice_payments", {
    **PAGE, "invoice": text(), "status": one_of("canceled", "open", "paid"), "payment": PAYMENT,
})  # fmt: skip
def payment_list(world: World, p: JSON) -> JSON:
    """List; `payment[type]=payment_intent&payment[payment_intent]=pi_...` finds the invoice of an intent."""
    intent = (p.get("payment") or {}).get("payment_intent")
    where = {"_intent": intent} if intent else {}
    return world.listing("invoice_payment", "/v1/invoice_payments", p, ["invoice", "status"], **where)


@route("GET", "/v1/invoice_payments/{invoice_payment}")
def payment_retrieve(world: World, p: JSON, invoice_payment: str) -> JSON:
    """Retrieve."""
    return world.get("invoice_payment", invoice_payment)
