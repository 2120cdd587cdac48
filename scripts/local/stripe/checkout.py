"""Checkout Sessions: made by the API, then paid, declined or abandoned on the page or by a control."""

from typing import Any

from . import catalog, payments
from .customers import create_customer, live_customer
from .errors import JSON, ApiError
from .invoices import slice_of
from .params import (
    PAGE,
    Fields,
    Required,
    boolean,
    currency,
    email,
    integer,
    list_of,
    metadata,
    one_of,
    record,
    text,
    url,
)
from .routes import route
from .subscriptions import after, start_subscription
from .world import DAY, DUE, World, merged, new_id, page, refuse

CARD, DELAYED = "card", "us_bank_account"
# Below these Stripe refuses to charge; minor units. 50 for all others.
MINIMUM = {"usd": 50, "eur": 50, "gbp": 30, "jpy": 50, "chf": 50}


def _due(session: JSON) -> int | None:
    return int(session["expires_at"]) if session["status"] == "open" else None


DUE["checkout.session"] = _due

LINE_ITEM: Fields = {
    "price": text(), "price_data": record(catalog.PRICE_DATA), "quantity": integer(1, 999_999),
    "adjustable_quantity": record({
        "enabled": Required(boolean), "minimum": integer(0, 999_999), "maximum": integer(1, 999_999)}),
    "metadata": metadata,
}  # fmt: skip
INTENT_DATA = {
    "metadata": metadata, "description": text(1000), "receipt_email": email, "statement_descriptor": text(22),
    "statement_descriptor_suffix": text(22), "setup_future_usage": one_of("off_session", "on_session"),
}  # fmt: skip
SUBSCRIPTION_DATA = {
    "metadata": metadata, "description": text(500), "trial_period_days": integer(1, 730),
    "trial_end": integer(0),
    "trial_settings": record({"end_behavior": Required(record({
        "missing_payment_method": Required(one_of("cancel", "create_invoice", "pause"))}))}),
}  # fmt: skip


@route("POST", "/v1/checkout/sessions", {
    "mode": Required(one_of("payment", "subscription")),
    "line_items": Required(list_of(record(LINE_ITEM), 100)),
    "success_url": Required(url), "cancel_url": url, "customer": text(), "customer_email": email,
    "customer_creation": one_of("always", "if_required"), "client_reference_id": text(200),
    "metadata": metadata, "payment_intent_data": record(INTENT_DATA),
    "subscription_data": record(SUBSCRIPTION_DATA), "allow_promotion_codes": boolean,
    "discounts": list_of(record({"coupon": text(), "promotion_code": text()}), 1),
    "payment_method_types": list_of(one_of(CARD, DELAYED)), "currency": currency, "expires_at": integer(0),
    "payment_method_collection": one_of("always", "if_required"), "locale": text(10),
    "billing_address_collection": one_of("auto", "required"),
    "submit_type": one_of("auto", "book", "donate", "pay", "subscribe"),
    "ui_mode": one_of("hosted_page"),
    "automatic_tax": record({"enabled": Required(boolean)}),
    "tax_id_collection": record({"enabled": Required(boolean)}),
    "customer_update": record({"address": one_of("auto", "never"), "name": one_of("auto", "never")}),
})  # fmt: skip
def create(world: World, p: JSON) -> JSON:
    """Create a session in mode payment or subscription."""
    mode = p["mode"]
    customer = live_customer(world, p["customer"], "customer") if p.get("customer") else None
    _exclusive(p, "customer", "customer_email")
    _exclusive(p, "allow_promotion_codes", "discounts")
    _only_in(p, mode, "payment", "payment_intent_data", "customer_creation", "submit_type")
    _only_in(p, mode, "subscription", "subscription_data", "payment_method_collection")
    tax, tax_id = _taxes(p, customer)
    if not p["line_items"]:
        raise ApiError("Missing required param: line_items.", code="parameter_missing", param="line_items")
    expires_at = p.get("expires_at", world.now() + DAY)
    if not world.now() + 1800 <= expires_at <= world.now() + DAY:
        raise ApiError(
            "The `expires_at` timestamp must be at least 30 minutes and at most 24 hours from Checkout "
            "Session "
            "creation.", param="expires_at",
        )  # fmt: skip
    items = [_line_item(world, mode, given, n) for n, given in enumerate(p["line_items"])]
    currencies = {item["currency"] for item in items}
    if len(currencies) > 1 or (p.get("currency") and {p["currency"]} != currencies):
        raise ApiError("All prices on a Checkout Session must have the same currency.", param="line_items")
    if mode == "subscription" and not any(item["price"]["recurring"] for item in items):
        raise ApiError(
            "You must provide at least one recurring price in `subscription` mode when using prices.",
            param="line_items",
        )
    money = currencies.pop()
    session_id = new_id("cs_test_a1", 56)
    methods = (
        p.get("payment_method_types") or [CARD, DELAYED][: 2 if mode == "payment" and money == "usd" else 1]
    )
    session: JSON = {
        "id": session_id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": p.get("allow_promotion_codes"),
        "amount_subtotal": 0,
        "amount_total": 0,
        "automatic_tax": {
            "enabled": tax, "liability": {"type": "self"} if tax else None,
            "provider": "stripe" if tax else None, "status": "requires_location_inputs" if tax else None},
        "billing_address_collection": p.get("billing_address_collection"),
        "cancel_url": p.get("cancel_url"),
        "client_reference_id": p.get("client_reference_id"),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": world.now(),
        "currency": money,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None, "shipping_address": None, "submit": None,
            "terms_of_service_acceptance": None},
        "customer": customer and customer["id"],
        "customer_creation": None if customer or mode == "subscription" else p.get(
            "customer_creation", "if_required"),
        "customer_details": _details(customer["email"], customer["name"]) if customer else (
            _details(p["customer_email"], None) if p.get("customer_email") else None),
        "customer_email": p.get("customer_email"),
        "discounts": [],
        "expires_at": expires_at,
        "invoice": None,
        "invoice_creation": {
            "enabled": False, "invoice_data": {
                "account_tax_ids": None, "custom_fields": None, "description": None, "footer": None,
                "issuer": None, "metadata": {}, "rendering_options": None},
        } if mode == "payment" else None,
        "livemode": False,
        "locale": p.get("locale"),
        "metadata": p.get("metadata", {}),
        "mode": mode,
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": p.get(
            "payment_method_collection", "always" if mode == "subscription" else "if_required"),
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": methods,
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": p.get("submit_type"),
        "subscription": None,
        "success_url": p["success_url"],
        "tax_id_collection": {"enabled": tax_id, "required": "never"},
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{world.base_url}/c/pay/{session_id}",
        "wallet_options": None,
        "_items": items,
        "_intent_data": p.get("payment_intent_data", {}),
        "_subscription_data": p.get("subscription_data", {}),
        "_code": None,
        "_coupon": None,
    }  # fmt: skip
    for discount in p.get("discounts", []):
        _given_discount(world, session, discount)
    _total(world, session)
    if mode == "payment" and 0 < session["amount_total"] < MINIMUM.get(money, 50):
        raise ApiError(
            "The Checkout Session's total amount due must add up to at least "
            f"{MINIMUM.get(money, 50)} in the minor unit of {money}.", code="amount_too_small",
        )  # fmt: skip
    return world.save(session)


def _taxes(p: JSON, customer: JSON | None) -> tuple[bool, bool]:
    """Whether the page calculates taxes, and collects tax ids. No tax is added: that is not simulated."""
    update = p.get("customer_update", {})
    if update and not customer:
        raise ApiError("`customer_update` can only be used with `customer`.", param="customer_update")
    tax, tax_id = (p.get(name, {}).get("enabled", False) for name in ("automatic_tax", "tax_id_collection"))
    if tax and customer and not customer["address"] and update.get("address") != "auto":
        raise ApiError(
            "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid "
            "address to the Customer or set either `customer_update[address]` to 'auto' or "
            "`customer_update[shipping]` to 'auto' to save the address entered in Checkout to the Customer.",
            code="customer_tax_location_invalid",
        )
    if tax_id and customer and update.get("name") != "auto":
        raise ApiError(
            "Tax ID collection requires updating business name on the customer. To enable tax ID collection "
            "for an existing customer, please set `customer_update[name]` to `auto`.",
            param="tax_id_collection",
        )
    return tax, tax_id


def _exclusive(p: JSON, one: str, other: str) -> None:
    if p.get(one) and p.get(other):
        raise ApiError(f"You may only specify one of these parameters: {one}, {other}.", param=one)


def _only_in(p: JSON, mode: str, allowed: str, *names: str) -> None:
    for name in names:
        if name in p and mode != allowed:
            raise ApiError(f"You can not pass `{name}` in `{mode}` mode.", param=name)


def _details(address: str | None, name: str | None) -> JSON:
    return {
        "address": None, "business_name": None, "email": address, "individual_name": None, "name": name,
        "phone": None, "tax_exempt": "none", "tax_ids": None,
    }  # fmt: skip


def _line_item(world: World, mode: str, given: JSON, number: int) -> JSON:
    price = catalog.price_of(world, given, f"line_items[{number}]")
    if price["recurring"] and mode == "payment":
        raise ApiError(
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` "
            "mode or "
            "use only one-time prices.", param="line_items",
        )  # fmt: skip
    if not price["recurring"] and mode == "subscription":
        raise ApiError(
            "The local Stripe sells no one-time prices together with a subscription.", param="line_items"
        )
    if "quantity" not in given:
        raise ApiError(
            f"Quantity is required. Add `quantity` to `line_items[{number}]`", param=f"line_items[{number}]"
        )
    adjustable = given.get("adjustable_quantity")
    product = world.get("product", price["product"])
    return {
        "id": new_id("li_"),
        "object": "item",
        "adjustable_quantity": adjustable and {
            "enabled": adjustable["enabled"], "minimum": adjustable.get("minimum", 0),
            "maximum": adjustable.get("maximum", 99)},
        "amount_discount": 0,
        "amount_subtotal": price["unit_amount"] * given["quantity"],
        "amount_tax": 0,
        "amount_total": price["unit_amount"] * given["quantity"],
        "currency": price["currency"],
        "description": product["name"],
        "metadata": given.get("metadata", {}),
        "price": price,
        "quantity": given["quantity"],
    }  # fmt: skip


# -- discounts and totals --------------------------------------------------------------------------


def _given_discount(world: World, session: JSON, discount: JSON) -> None:
    if discount.get("promotion_code"):
        code = world.get("promotion_code", discount["promotion_code"], "discounts[0][promotion_code]")
        session["_code"], session["_coupon"] = code["id"], code["promotion"]["coupon"]
    elif discount.get("coupon"):
        session["_coupon"] = world.get("coupon", discount["coupon"], "discounts[0][coupon]")["id"]
    session["discounts"] = [{"coupon": session["_coupon"], "promotion_code": session["_code"]}]


def apply_code(world: World, session: JSON, code: str) -> str | None:
    """Enter a promotion code on the page. Returns why not, in one sentence, or None."""
    if not session["allow_promotion_codes"] or session["status"] != "open":
        return "This page takes no promotion codes."
    found = catalog.find_promotion_code(world, code)
    if not found:
        return "This code is invalid."
    coupon = world.get("coupon", found["promotion"]["coupon"])
    why_not = catalog.usable(world, coupon, found, session["amount_subtotal"], session["currency"])
    if why_not:
        return why_not
    if found["customer"] and found["customer"] != session["customer"]:
        return "This code is invalid."
    session["_code"], session["_coupon"] = found["id"], coupon["id"]
    session["discounts"] = [{"coupon": coupon["id"], "promotion_code": found["id"]}]
    _total(world, session)
    world.save(session)
    return None


def set_quantity(world: World, session: JSON, item_id: str, quantity: int) -> str | None:
    """Change the quantity of a line on the page. Returns why not, in one sentence, or None."""
    for item in session["_items"]:
        limits = item["adjustable_quantity"]
        if item["id"] == item_id and limits and limits["enabled"] and session["status"] == "open":
            if not limits["minimum"] <= quantity <= limits["maximum"]:
                return f"Choose from {limits['minimum']} to {limits['maximum']}."
            item["quantity"], item["amount_subtotal"] = quantity, item["price"]["unit_amount"] * quantity
            _total(world, session)
            world.save(session)
            return None
    return "This quantity is fixed."


def _total(world: World, session: JSON) -> None:
    items = session["_items"]
    coupon = world.get("coupon", session["_coupon"]) if session["_coupon"] else None
    # What a trial costs today: nothing.
    data = session["_subscription_data"]
    free = bool(data.get("trial_period_days") or data.get("trial_end"))
    offs = catalog.discounted([item["amount_subtotal"] for item in items], coupon)
    for item, off in zip(items, offs, strict=True):
        item["amount_discount"] = 0 if free else off
        if free:
            item["amount_subtotal"] = 0
        item["amount_total"] = item["amount_subtotal"] - item["amount_discount"]
    off_total = sum(item["amount_discount"] for item in items)
    session["amount_subtotal"] = sum(item["amount_subtotal"] for item in items)
    session["amount_total"] = session["amount_subtotal"] - off_total
    session["total_details"] = {"amount_discount": off_total, "amount_shipping": 0, "amount_tax": 0}


# -- what happens on the page ----------------------------------------------------------------------


def require_open(session: JSON) -> None:
    """Raise ApiError unless the session can still be paid."""
    if session["status"] != "open":
        raise refuse(f"This Checkout Session is {session['status']}; only an open one can be changed.")


def complete(
    world: World, session: JSON, *, delayed: bool = False, address: str = "buyer@example.com",
    card: bool = True,
) -> JSON:  # fmt: skip
    """The buyer pays. `delayed` uses a method whose result comes later: see finish_delayed().

    `card` False starts a trial without a card, where the session allows that.
    """
    require_open(session)
    if delayed and (session["mode"] != "payment" or DELAYED not in session["payment_method_types"]):
        raise refuse(
            "This session takes no delayed payment method (payment_method_types has no us_bank_account)."
        )
    given = (session["customer_details"] or {}).get("email") or address
    customer = session["customer"]
    if not customer and (session["mode"] == "subscription" or session["customer_creation"] == "always"):
        customer = create_customer(world, {"email": given, "name": "Local Buyer"})["id"]
    session.update(
        customer=customer, customer_details={**_details(given, "Local Buyer"), "address": payments.ADDRESS}
    )
    if session["_coupon"]:
        catalog.redeem(world, session["_coupon"], session["_code"])
    if session["mode"] == "subscription":
        return _complete_subscription(world, session, card)
    return _complete_payment(world, session, delayed)


def _complete_payment(world: World, session: JSON, delayed: bool) -> JSON:
    status = "no_payment_required"
    if session["amount_total"]:
        intent = _intent(world, session)
        method = payments.create_payment_method(world, delayed, session["customer_details"]["email"], None)
        if delayed:
            payments.begin(world, intent, method)
        else:
            payments.succeed(world, intent, method)
        status = "unpaid" if delayed else "paid"
    session.update(status="complete", payment_status=status, url=None)
    return world.create(session, "checkout.session.completed")


def _intent(world: World, session: JSON) -> JSON:
    """The session's payment intent, made when the buyer first tries to pay."""
    if session["payment_intent"]:
        return world.get("payment_intent", session["payment_intent"])
    intent = payments.create_intent(
        world, session["amount_total"], session["currency"], session["customer"], None,
        payment_method_types=session["payment_method_types"],
        **{"metadata": {}, **session["_intent_data"]},
    )  # fmt: skip
    session["payment_intent"] = intent["id"]
    return intent


def _complete_subscription(world: World, session: JSON, card: bool) -> JSON:
    if not card and (session["payment_method_collection"] == "always" or session["amount_total"]):
        raise refuse("This session needs a payment method (payment_method_collection, amount_total).")
    customer = session["customer"]
    method = None
    if card:
        address = session["customer_details"]["email"]
        method = payments.create_payment_method(world, False, address, customer)["id"]
    subscription, invoice = start_subscription(
        world, customer, [(item["price"], item["quantity"]) for item in session["_items"]],
        session["_subscription_data"], method, _discounts(world, session),
    )  # fmt: skip
    session.update(
        status="complete", url=None, subscription=subscription["id"], invoice=invoice["id"],
        payment_status="paid" if session["amount_total"] else "no_payment_required",
    )  # fmt: skip
    return world.create(session, "checkout.session.completed")


def _months_on(start: int, months: int) -> int:
    return after(start, start, {"interval": "month", "interval_count": months})


def _discounts(world: World, session: JSON) -> list[JSON]:
    if not session["_coupon"]:
        return []
    coupon = world.get("coupon", session["_coupon"])
    months = coupon["duration_in_months"]
    return [world.create(
        {
            "id": new_id("di_"), "object": "discount", "checkout_session": session["id"],
            "customer": session["customer"], "end": _months_on(world.now(), months) if months else None,
            "invoice": None, "invoice_item": None, "promotion_code": session["_code"],
            "source": {"type": "coupon", "coupon": coupon["id"]}, "start": world.now(), "subscription": None,
            "subscription_item": None,
        }
    )]  # fmt: skip


def decline(world: World, session: JSON, reason: str = "generic_decline") -> JSON:
    """The buyer's card is declined; the session stays open, and the buyer may try again."""
    require_open(session)
    if session["mode"] == "subscription" or not session["amount_total"]:
        return session  # nothing is made before the card is good
    method = payments.create_payment_method(world, False, None, None)
    payments.decline(world, _intent(world, session), method, reason)
    return world.save(session)


def finish_delayed(world: World, session: JSON, success: bool) -> JSON:
    """The result of a delayed payment, days later."""
    if (
        session["status"] != "complete"
        or session["payment_status"] != "unpaid"
        or not session["payment_intent"]
    ):
        raise refuse("This session has no delayed payment under way.")
    intent = world.get("payment_intent", session["payment_intent"])
    if intent["status"] != "processing":
        raise refuse(f"The delayed payment has ended already: the payment intent is {intent['status']}.")
    payments.finish(world, intent, success)
    if success:
        session["payment_status"] = "paid"
    return world.create(session, f"checkout.session.async_payment_{'succeeded' if success else 'failed'}")


def expire(world: World, session: JSON) -> JSON:
    """Nobody paid in time, or the shop ended it."""
    require_open(session)
    if session["payment_intent"]:
        intent = world.get("payment_intent", session["payment_intent"])
        world.change(
            intent, "payment_intent.canceled",
            status="canceled", canceled_at=world.now(), cancellation_reason="automatic",
        )  # fmt: skip
    session.update(status="expired", url=None)
    return world.create(session, "checkout.session.expired")


# -- endpoints -------------------------------------------------------------------------------------


@route("GET", "/v1/checkout/sessions/{session}")
def retrieve(world: World, p: JSON, session: str) -> JSON:
    """Retrieve."""
    return world.get("checkout.session", session)


@route("GET", "/v1/checkout/sessions", {
    **PAGE, "customer": text(), "payment_intent": text(), "subscription": text(),
    "status": one_of("complete", "expired", "open"), "customer_details": record({"email": Required(text())}),
})  # fmt: skip
def list_all(world: World, p: JSON) -> JSON:
    """List."""
    where: dict[str, Any] = {}
    if p.get("customer_details"):
        where["customer_details__email"] = p["customer_details"]["email"]
    return world.listing(
        "checkout.session", "/v1/checkout/sessions", p,
        ["customer", "payment_intent", "subscription", "status"], **where,
    )  # fmt: skip


@route("POST", "/v1/checkout/sessions/{session}", {"metadata": metadata})
def update(world: World, p: JSON, session: str) -> JSON:
    """Update the metadata."""
    found = world.get("checkout.session", session)
    return world.change(found, None, metadata=merged(found["metadata"], p.get("metadata")))


@route("GET", "/v1/checkout/sessions/{session}/line_items",
       {"limit": integer(1, 100), "starting_after": text(), "ending_before": text()})  # fmt: skip
def line_items(world: World, p: JSON, session: str) -> JSON:
    """What is bought."""
    items = world.get("checkout.session", session)["_items"]
    return slice_of(items, f"/v1/checkout/sessions/{session}/line_items", p)


@route("POST", "/v1/checkout/sessions/{session}/expire")
def expire_now(world: World, p: JSON, session: str) -> JSON:
    """Expire an open session."""
    found = world.get("checkout.session", session)
    if found["status"] != "open":
        raise refuse(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a '
            f'status of "{found["status"]}".'
        )
    return expire(world, found)


def includable_line_items(session: JSON) -> JSON:
    """The value of `line_items`, which only an expand shows."""
    items = session["_items"]
    return page(items[:10], f"/v1/checkout/sessions/{session['id']}/line_items", len(items) > 10)
