"""Subscriptions: start, trial, renewal, changes with proration, failed payments, pause, cancel."""

import calendar
from datetime import UTC, datetime
from typing import Any

from . import invoices
from .catalog import price_of
from .errors import JSON, ApiError
from .params import EXPAND, PAGE, Required, boolean, integer, list_of, metadata, one_of, record, text
from .routes import route
from .world import DAY, DUE, World, merged, new_id, page, refuse

ENDED = ("canceled", "incomplete_expired")


def _due(subscription: JSON) -> int | None:
    if subscription["status"] in (*ENDED, "paused", "incomplete"):
        return None
    times = [period(subscription)[1], subscription["cancel_at"]]
    pause = subscription["pause_collection"]
    times.append(pause["resumes_at"] if pause else None)
    if subscription["status"] == "trialing" and not subscription["_reminded"]:
        times.append(subscription["trial_end"] - 3 * DAY)
    soonest: int = min(time for time in times if time is not None)
    return soonest


DUE["subscription"] = _due


def period(subscription: JSON) -> tuple[int, int]:
    """Start and end of the period that runs. Kept on the items; all of ours have the same."""
    item = subscription["items"]["data"][0]
    return item["current_period_start"], item["current_period_end"]


def after(anchor: int, start: int, recurring: JSON) -> int:
    """The end of the period that begins at `start`: the next time that the anchor comes round."""
    interval, count = recurring["interval"], recurring["interval_count"]
    if interval in ("day", "week"):
        step = count * DAY * (7 if interval == "week" else 1)
        return int(anchor + ((start - anchor) // step + 1) * step)
    months = count * (12 if interval == "year" else 1)
    first, number = datetime.fromtimestamp(anchor, UTC), 0
    while True:
        number += months
        year, month = divmod(first.month - 1 + number, 12)
        last = calendar.monthrange(first.year + year, month + 1)[1]
        # The 31st becomes the last day of a shorter month, and the 31st again after it.
        moment = first.replace(year=first.year + year, month=month + 1, day=min(first.day, last))
        if (end := int(moment.timestamp())) > start:
            return end


def _item(world: World, subscription: str, price: JSON, quantity: int, start: int, end: int) -> JSON:
    return {
        "id": new_id("si_", 14),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": world.now(),
        "current_period_end": end,
        "current_period_start": start,
        "discounts": [],
        "metadata": {},
        "price": price,
        "quantity": quantity,
        "subscription": subscription,
        "tax_rates": [],
    }


def _money(price: JSON) -> str:
    """A price for people."""
    from .params import ZERO_DECIMAL

    amount, currency = price["unit_amount"], price["currency"]
    value = str(amount) if currency in ZERO_DECIMAL else f"{amount / 100:.2f}"
    return f"{'$' if currency == 'usd' else ''}{value}{'' if currency == 'usd' else ' ' + currency.upper()}"


def _name(world: World, price: JSON) -> str:
    return str(world.get("product", price["product"])["name"])


def _full_lines(world: World, subscription: JSON) -> list[JSON]:
    """One line an item, for the period that the items name. A trial's lines are of nothing."""
    trial = subscription["status"] == "trialing"
    lines = []
    for item in subscription["items"]["data"]:
        price, quantity = item["price"], item["quantity"]
        each = f"{_name(world, price)} (at {_money(price)} / {price['recurring']['interval']})"
        lines.append(
            invoices.line(
                subscription, item, 0 if trial else price["unit_amount"] * quantity, quantity, price,
                item["current_period_start"], item["current_period_end"],
                f"Trial period for {_name(world, price)}" if trial else f"{quantity} x {each}",
            )
        )  # fmt: skip
    return lines


# -- start -----------------------------------------------------------------------------------------


def start_subscription(
    world: World, customer: str, items: list[tuple[JSON, int]], data: JSON, method: str | None,
    discounts: list[JSON],
) -> tuple[JSON, JSON]:  # fmt: skip
    """Begin, as a checkout page does. Returns the subscription and its first invoice, which is paid."""
    now = world.now()
    subscription_id = new_id("sub_")
    trial_end = data.get("trial_end") or (
        now + data["trial_period_days"] * DAY if data.get("trial_period_days") else None
    )
    end = trial_end or after(now, now, items[0][0]["recurring"])
    missing = ((data.get("trial_settings") or {}).get("end_behavior") or {}).get("missing_payment_method")
    subscription: JSON = {
        "id": subscription_id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"enabled": False, "disabled_reason": None, "liability": None},
        "billing_cycle_anchor": trial_end or now,
        "billing_cycle_anchor_config": None,
        "billing_mode": {"type": "flexible", "flexible": {"proration_discounts": "included"},
        "updated_at": now},
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": now,
        "currency": items[0][0]["currency"],
        "customer": customer,
        "days_until_due": None,
        "default_payment_method": method,
        "default_source": None,
        "default_tax_rates": [],
        "description": data.get("description"),
        "discounts": [discount["id"] for discount in discounts],
        "ended_at": None,
        "invoice_settings": {"issuer": {"type": "self"}, "account_tax_ids": None},
        "items": page(
            [_item(world, subscription_id, price, quantity, now, end) for price, quantity in items],
            f"/v1/subscription_items?subscription={subscription_id}",
        ),
        "latest_invoice": None,
        "livemode": False,
        "metadata": data.get("metadata", {}),
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None, "payment_method_types": None,
            "save_default_payment_method": "off"},
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": now,
        "status": "trialing" if trial_end else "active",
        "test_clock": None,
        "transfer_data": None,
        "trial_end": trial_end,
        "trial_settings": {"end_behavior": {"missing_payment_method": missing or "create_invoice"}},
        "trial_start": now if trial_end else None,
        # Lines of prorations that wait for the next invoice; whether the end of the trial was announced.
        "_pending": [],
        "_reminded": bool(trial_end and trial_end - now < 3 * DAY),
    }  # fmt: skip
    for discount in discounts:
        world.change(discount, None, subscription=subscription_id)
    world.save(subscription)
    invoice = invoices.create_invoice(
        world, subscription, "subscription_create", _full_lines(world, subscription), now, now
    )
    invoices.finalize(world, invoice)
    subscription["latest_invoice"] = invoice["id"]
    world.create(subscription, "customer.subscription.created")
    customer_object = world.get("customer", customer)
    world.change(customer_object, "customer.updated", currency=subscription["currency"])
    error = invoices.collect(world, invoice, method)
    if error:
        raise ApiError(error["message"], status=402, kind=error["type"], code=error.get("code"))
    return subscription, invoice


# -- time passes -----------------------------------------------------------------------------------


def on_due(world: World, subscription: JSON, at: int) -> None:
    """What the clock brings at `at`: a reminder, a resumption, an end, a renewal."""
    pause = subscription["pause_collection"]
    if pause and pause["resumes_at"] is not None and pause["resumes_at"] <= at:
        world.change(subscription, "customer.subscription.updated", pause_collection=None)
    elif subscription["cancel_at"] is not None and subscription["cancel_at"] <= at:
        cancel_now(world, subscription)
    elif period(subscription)[1] <= at:
        _renew(world, subscription)
    elif not subscription["_reminded"]:
        world.change(subscription, None, _reminded=True)
        world.emit("customer.subscription.trial_will_end", subscription)


def _renew(world: World, subscription: JSON) -> None:
    """A new period: its invoice is a draft for an hour."""
    start, end = period(subscription)
    changes: JSON = {}
    if subscription["status"] == "trialing":
        behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
        if not subscription["default_payment_method"] and behavior == "pause":
            world.change(subscription, None, status="paused")
            world.emit("customer.subscription.updated", subscription, {"status": "trialing"})
            world.emit("customer.subscription.paused", subscription)
            return
        if not subscription["default_payment_method"] and behavior == "cancel":
            cancel_now(world, subscription)
            return
        changes["status"] = "active"
    items = subscription["items"]["data"]
    next_end = after(subscription["billing_cycle_anchor"], end, items[0]["price"]["recurring"])
    changes["items"] = {
        **subscription["items"],
        "data": [{**item, "current_period_start": end, "current_period_end": next_end} for item in items],
    }
    previous = {name: subscription[name] for name in changes}
    subscription.update(changes)
    lines = [*subscription["_pending"], *_full_lines(world, subscription)]
    subscription["_pending"] = []
    world.save(subscription)
    invoice = invoices.create_invoice(world, subscription, "subscription_cycle", lines, start, end)
    previous["latest_invoice"] = subscription["latest_invoice"]
    subscription["latest_invoice"] = invoice["id"]
    world.save(subscription)
    world.emit("customer.subscription.updated", subscription, previous)
    pause = subscription["pause_collection"]
    if not pause:
        return
    if pause["behavior"] == "keep_as_draft":
        world.change(invoice, "invoice.updated", auto_advance=False, automatically_finalizes_at=None)
        return
    invoices.finalize(world, invoice)
    if pause["behavior"] == "void":
        invoices.close(world, invoice, "void", "invoice.voided", "voided_at")
    else:
        invoices.close(
            world, invoice, "uncollectible", "invoice.marked_uncollectible", "marked_uncollectible_at"
        )


def on_invoice_due(world: World, invoice: JSON) -> None:
    """A draft's hour is over, or a failed charge is tried again."""
    subscription = world.get("subscription", invoice["_subscription"])
    if invoice["status"] == "draft":
        invoices.finalize(world, invoice)
    error = invoices.collect(world, invoice, subscription["default_payment_method"])
    after_payment(world, subscription, invoice, error is None)


def after_payment(world: World, subscription: JSON, invoice: JSON, paid: bool) -> None:
    """Active again when its newest invoice is paid, past_due when not, canceled after the last attempt."""
    subscription = world.get("subscription", subscription["id"])
    if subscription["status"] in ENDED or subscription["latest_invoice"] != invoice["id"]:
        return
    if paid:
        if subscription["status"] in ("past_due", "unpaid"):
            world.change(subscription, "customer.subscription.updated", status="active")
        return
    if subscription["status"] == "active":
        world.change(subscription, "customer.subscription.updated", status="past_due")
    if invoice["next_payment_attempt"] is None:
        cancel_now(world, subscription, "payment_failed")


def cancel_now(
    world: World, subscription: JSON, reason: str = "cancellation_requested", **details: Any
) -> JSON:
    """End it. Drafts of it are not collected any more."""
    now = world.now()
    for invoice in world.store.find("invoice", _subscription=subscription["id"]):
        if invoice["status"] in ("draft", "open"):
            world.change(invoice, None, auto_advance=False, next_payment_attempt=None)
    subscription.update(
        status="canceled", ended_at=now, canceled_at=subscription["canceled_at"] or now,
        cancellation_details={"comment": None, "feedback": None, **details, "reason": reason},
    )  # fmt: skip
    return world.create(subscription, "customer.subscription.deleted")


# -- changes ---------------------------------------------------------------------------------------


def _prorate(world: World, subscription: JSON, item: JSON, price: JSON, quantity: int, at: int) -> list[JSON]:
    """Lines for the rest of the period: the old price given back, the new one charged."""
    start, end = item["current_period_start"], item["current_period_end"]
    if subscription["status"] == "trialing" or at >= end:
        return []
    day = datetime.fromtimestamp(at, UTC).strftime("%d %b %Y")
    lines = []
    for sign, its_price, its_quantity, what in (
        (-1, item["price"], item["quantity"], "Unused time on"),
        (1, price, quantity, "Remaining time on"),
    ):
        full = its_price["unit_amount"] * its_quantity
        # Half a minor unit and more is rounded up; integers only.
        amount = (2 * full * (end - at) + (end - start)) // (2 * (end - start))
        count = f"{its_quantity} x " if its_quantity > 1 else ""
        credited = None
        if sign < 0:
            credited = _credited(world, subscription, item)
        if its_quantity:
            lines.append(
                invoices.line(
                    subscription, item, sign * amount, its_quantity, its_price, at, end,
                    f"{what} {count}{_name(world, its_price)} after {day}", new_id("ii_"), credited,
                )
            )  # fmt: skip
    return lines


def _credited(world: World, subscription: JSON, item: JSON) -> JSON | None:
    """The newest invoice line that charged for an item, which a credit gives back."""
    for invoice in reversed(world.store.find("invoice", _subscription=subscription["id"])):
        for line in invoice["lines"]["data"]:
            details = line["parent"]["subscription_item_details"]
            if details["subscription_item"] == item["id"] and line["amount"] > 0:
                return {"invoice": invoice["id"], "invoice_line_items": [line["id"]]}
    return None


ITEM = {
    "id": text(), "price": text(), "price_data": record({
        "currency": Required(text()), "product": Required(text()), "unit_amount": Required(integer(0)),
        "recurring": Required(record({
            "interval": Required(one_of("day", "week", "month", "year")), "interval_count": integer(1)})),
    }), "quantity": integer(0), "metadata": metadata, "deleted": boolean,
}  # fmt: skip


@route("POST", "/v1/subscriptions/{subscription}", {
    "items": list_of(record(ITEM), 20), "metadata": metadata, "cancel_at_period_end": boolean,
    "cancel_at": integer(0), "description": text(500), "default_payment_method": text(),
    "proration_behavior": one_of("always_invoice", "create_prorations", "none"), "proration_date": integer(0),
    "payment_behavior": one_of("allow_incomplete", "error_if_incomplete"),
    "pause_collection": record({
        "behavior": Required(one_of("keep_as_draft", "mark_uncollectible", "void")), "resumes_at": integer(0),
    }, unset=True),
    "trial_end": text(),
    "cancellation_details": record({"comment": text(), "feedback": text()}),
})  # fmt: skip
def update(world: World, p: JSON, subscription: str) -> JSON:
    """Change items, quantity, pause, the end; with proration as asked (create_prorations by default)."""
    found = world.get("subscription", subscription)
    if found["status"] in ENDED:
        raise refuse("A canceled subscription can only update its cancellation_details and metadata.")
    changes: JSON = {"metadata": merged(found["metadata"], p.get("metadata"))}
    for name in ("description", "default_payment_method"):
        if name in p:
            changes[name] = p[name]
    if "pause_collection" in p:
        pause = p["pause_collection"]
        changes["pause_collection"] = pause and {
            "behavior": pause["behavior"], "resumes_at": pause.get("resumes_at")}  # fmt: skip
    if "cancel_at_period_end" in p:
        ends = p["cancel_at_period_end"]
        changes |= {
            "cancel_at_period_end": ends,
            "cancel_at": period(found)[1] if ends else None,
            "canceled_at": world.now() if ends else None,
            "cancellation_details": {
                "comment": None, "feedback": None, **p.get("cancellation_details", {}),
                "reason": "cancellation_requested" if ends else None,
            },
        }  # fmt: skip
    elif "cancel_at" in p:
        changes |= {"cancel_at": p["cancel_at"], "canceled_at": world.now()}
    if p.get("trial_end"):
        changes |= _trial_end(world, found, p["trial_end"])
    lines: list[JSON] = []
    if "items" in p:
        changes["items"], lines = _new_items(world, found, p)
    now = world.now()
    behavior = p.get("proration_behavior", "create_prorations")
    if "trial_end" in changes and changes["trial_end"] == now:
        world.change(found, None, **{**changes, "items": changes.get("items", found["items"])})
        _renew(world, found)
        return _collect_now(world, found, p)
    if lines and behavior == "create_prorations":
        found["_pending"] = [*found["_pending"], *lines]
    if not (lines and behavior == "always_invoice"):
        return world.change(found, "customer.subscription.updated", **changes)
    previous = {name: found[name] for name, value in changes.items() if found[name] != value}
    found.update(changes)
    pending, found["_pending"] = found["_pending"], []
    world.save(found)
    invoice = invoices.create_invoice(world, found, "subscription_update", [*pending, *lines], now, now)
    invoices.finalize(world, invoice)
    previous["latest_invoice"] = found["latest_invoice"]
    found["latest_invoice"] = invoice["id"]
    world.save(found)
    world.emit("customer.subscription.updated", found, previous)
    return _pay(world, found, invoice, p)


def _collect_now(world: World, subscription: JSON, p: JSON) -> JSON:
    """Finalize and charge the newest invoice without the hour's wait."""
    invoice = world.get("invoice", subscription["latest_invoice"])
    if invoice["status"] == "draft":
        invoices.finalize(world, invoice)
    return _pay(world, subscription, invoice, p)


def _pay(world: World, subscription: JSON, invoice: JSON, p: JSON) -> JSON:
    error = invoices.collect(world, invoice, subscription["default_payment_method"])
    if error and p.get("payment_behavior") == "error_if_incomplete":
        raise ApiError(error["message"], status=402, kind=error["type"], code=error.get("code"))
    after_payment(world, subscription, invoice, error is None)
    return world.get("subscription", subscription["id"])


def _trial_end(world: World, subscription: JSON, value: str) -> JSON:
    now = world.now()
    end = now if value == "now" else integer(now)(value, "trial_end")
    if subscription["status"] != "trialing":
        raise refuse("Only a trial that runs can be given another end here.", param="trial_end")
    items = subscription["items"]
    data = [{**item, "current_period_end": end} for item in items["data"]]
    return {"trial_end": end, "billing_cycle_anchor": end, "items": {**items, "data": data}}


def _new_items(world: World, subscription: JSON, p: JSON) -> tuple[JSON, list[JSON]]:
    """The items after the change, and the lines of prorations."""
    at = p.get("proration_date", world.now())
    start, end = period(subscription)
    if not start <= at <= world.now():
        raise refuse("proration_date must be within the current period and not in the future.")
    data, lines = list(subscription["items"]["data"]), []
    for index, wanted in enumerate(p["items"]):
        where = f"items[{index}]"
        given = {name: wanted[name] for name in ("price", "price_data") if name in wanted}
        price = price_of(world, given, where) if given else None
        if "id" in wanted:
            positions = [n for n, item in enumerate(data) if item["id"] == wanted["id"]]
            if not positions:
                raise ApiError(
                    f"No such subscription item: '{wanted['id']}'",
                    code="resource_missing",
                    param=f"{where}[id]",
                )
            position, old = positions[0], data[positions[0]]
            new_price = price or old["price"]
            quantity = 0 if wanted.get("deleted") else wanted.get("quantity", old["quantity"])
        elif price:
            old = _item(world, subscription["id"], price, 0, start, end)
            data.append(old)
            position, new_price, quantity = len(data) - 1, price, wanted.get("quantity", 1)
        else:
            raise refuse(f"Missing required param: {where}[price].", "parameter_missing", f"{where}[price]")
        if new_price["currency"] != subscription["currency"] or not new_price["recurring"]:
            raise refuse(
                "The price must be recurring and of the subscription's currency.", param=f"{where}[price]"
            )
        if any(old["price"]["recurring"][name] != new_price["recurring"][name]
               for name in ("interval", "interval_count")):  # fmt: skip
            raise refuse(
                "The local Stripe changes prices within one billing interval only.",
                param=f"{where}[price]",
            )
        if (old["price"]["id"], old["quantity"]) != (new_price["id"], quantity):
            if p.get("proration_behavior") != "none":
                lines += _prorate(world, subscription, old, new_price, quantity, at)
            data[position] = {**old, "price": new_price, "quantity": quantity}
        if wanted.get("metadata"):
            data[position] = {**data[position], "metadata": wanted["metadata"]}
        if wanted.get("deleted"):
            del data[position]
    if not data:
        raise refuse("A subscription must have at least one active item.", param="items")
    return {**subscription["items"], "data": data}, lines


# -- endpoints -------------------------------------------------------------------------------------


@route("GET", "/v1/subscriptions/{subscription}")
def retrieve(world: World, p: JSON, subscription: str) -> JSON:
    """Retrieve."""
    return world.get("subscription", subscription)


STATUSES = [
    "active",
    "all",
    "canceled",
    "ended",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
]


@route("GET", "/v1/subscriptions",
       {**PAGE, "customer": text(), "status": one_of(*STATUSES), "price": text()})  # fmt: skip
def list_all(world: World, p: JSON) -> JSON:
    """List; without a status those that are not canceled, as Stripe does."""
    filters = ["customer"]
    where: dict[str, Any] = {}
    status = p.get("status")
    if status and status not in ("all", "ended"):
        filters.append("status")
    elif status == "ended":
        where["status"] = "canceled"
    elif not status:
        where["ended_at"] = None
    if p.get("price"):
        where["items__data[0]__price__id"] = p["price"]
    return world.listing("subscription", "/v1/subscriptions", p, filters, **where)


@route("DELETE", "/v1/subscriptions/{subscription}", {
    **EXPAND, "invoice_now": boolean, "prorate": boolean,
    "cancellation_details": record({"comment": text(), "feedback": text()}),
})  # fmt: skip
def cancel(world: World, p: JSON, subscription: str) -> JSON:
    """Cancel at once."""
    found = world.get("subscription", subscription)
    if found["status"] in ENDED:
        raise ApiError(
            f"No such subscription: {subscription}", status=404, code="resource_missing", param="id"
        )
    if p.get("invoice_now") or p.get("prorate"):
        raise refuse("The local Stripe cancels without a last invoice; leave invoice_now and prorate out.")
    return cancel_now(world, found, **p.get("cancellation_details", {}))


@route("POST", "/v1/subscriptions/{subscription}/resume", {
    "billing_cycle_anchor": one_of("now", "unchanged"),
    "proration_behavior": one_of("always_invoice", "create_prorations", "none"),
})  # fmt: skip
def resume(world: World, p: JSON, subscription: str) -> JSON:
    """End the status `paused`: a new period begins, and is paid at once."""
    found = world.get("subscription", subscription)
    if found["status"] != "paused":
        raise refuse("You can only resume a subscription whose status is paused.")
    if p.get("billing_cycle_anchor") == "unchanged":
        raise refuse(
            "The local Stripe resumes with billing_cycle_anchor now only.", param="billing_cycle_anchor"
        )
    now = world.now()
    items = found["items"]
    end = after(now, now, items["data"][0]["price"]["recurring"])
    data = [{**item, "current_period_start": now, "current_period_end": end} for item in items["data"]]
    previous = {name: found[name] for name in ("billing_cycle_anchor", "items", "status", "latest_invoice")}
    found.update(status="active", billing_cycle_anchor=now, items={**items, "data": data})
    invoice = invoices.create_invoice(
        world, found, "subscription_update", _full_lines(world, found), now, now
    )
    invoices.finalize(world, invoice)
    found["latest_invoice"] = invoice["id"]
    world.save(found)
    error = invoices.collect(world, invoice, found["default_payment_method"])
    if error:
        raise ApiError(error["message"], status=402, kind=error["type"], code=error.get("code"))
    world.emit("customer.subscription.updated", found, previous)
    world.emit("customer.subscription.resumed", found)
    return found
