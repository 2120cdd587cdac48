"""POST {"package" or "plan": slug, "quantity", "currency", "success_url", "cancel_url"} -> {"id", "url"}.

Opens a Stripe Checkout Session for the signed-in user. What it costs and who pays is prepare_checkout()'s
word; the caller names a slug only.
"""

import hashlib
import json
from typing import Any

import stripe
from starlette.requests import Request
from starlette.responses import JSONResponse

from _shared import settings
from _shared.app import client_key, function, read_json
from _shared.database import service_rpc, user_rpc
from _shared.errors import FunctionError, unavailable
from _shared.payments import stripe_api
from _shared.payments.customers import scoped_key, with_customer
from _shared.payments.prices import check_price
from _shared.redirects import allowed_redirect
from _shared.tokens import User, verified_user

CHOICE = ("package", "plan", "quantity", "currency")
FIELDS = (*CHOICE, "success_url", "cancel_url")
ENDED = ("canceled", "incomplete_expired", "incomplete")
# How many closed sessions in a row are passed over that Stripe brings back for a key.
ATTEMPTS = 5

Order = dict[str, Any]
Page = dict[str, str]


def session_params(order: Order, customer: str, success_url: str, cancel_url: str) -> dict[str, Any]:
    """The parameters of the Checkout Session. `order` is prepare_checkout()'s answer."""
    params: dict[str, Any] = {
        "mode": order["mode"],
        "customer": customer,
        "client_reference_id": order["account_id"],
        "line_items": [order["line_item"]],
        # A Price may have several, and Stripe would choose by where the buyer is.
        "currency": order["currency"],
        "allow_promotion_codes": order["allow_promotion_codes"],
        "billing_address_collection": order["billing_address_collection"],
        "metadata": order["metadata"],
        "success_url": success_url,
        "cancel_url": cancel_url,
    }
    # What Checkout collects for the tax has to be kept with the customer, who is there already.
    keep: dict[str, str] = {}
    if order["automatic_tax"]:
        params["automatic_tax"] = {"enabled": True}
        keep["address"] = "auto"
    if order["tax_id_collection"]:
        params["tax_id_collection"] = {"enabled": True}
        keep["name"] = "auto"
    if keep:
        params["customer_update"] = keep
    if order["mode"] == "payment":
        params["payment_intent_data"] = {"metadata": order["metadata"]}
        return params
    params["subscription_data"] = {"metadata": order["metadata"]}
    if order["trial_period_days"]:
        params["subscription_data"]["trial_period_days"] = order["trial_period_days"]
    if order["trial_without_card"]:
        params["payment_method_collection"] = "if_required"
        params["subscription_data"]["trial_settings"] = {"end_behavior": {"missing_payment_method": "cancel"}}
    return params


async def ordered(user: User, choice: dict[str, Any]) -> Order:
    """prepare_checkout()'s answer, once Stripe was asked whether it charges what the row says."""
    order: Order = await user_rpc(user, "prepare_checkout", **choice)
    if order["check_price"]:
        await check_price(order["check_price"])
        order = await user_rpc(user, "prepare_checkout", **choice)
    if order["check_price"]:
        raise unavailable("The price is being changed; try again in a moment.")
    return order


async def create(params: dict[str, Any], idempotency_key: str | None) -> Any:
    """A new session in Stripe."""
    options: Any = {} if idempotency_key is None else {"idempotency_key": idempotency_key}
    given: Any = params
    return await stripe_api.client().v1.checkout.sessions.create_async(given, options)


async def open_plan(order: Order, params: dict[str, Any], key: str | None) -> Page:
    """The one session for a plan that the account may have open: paid twice it would be two subscriptions.

    The newest that is open is used again when it asks for the same. Otherwise another one is opened, and
    the earlier ones are expired before its URL is given out.
    """
    account = order["account_id"]
    request = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
    earlier = order["open_checkouts"]
    newest = earlier[0]["id"] if earlier else None
    if newest is not None and earlier[0]["request"] == request:
        session = await found(newest)
        if session is not None and session.status == "open":
            for other in earlier[1:]:
                await close(account, other["id"], newest)
            return {"id": session.id, "url": str(session.url)}
        await close(account, newest, None)

    closed: str | None = None
    for _ in range(ATTEMPTS):
        # Without a key of the client's two that ask at once get the same session.
        parts = (key, params["customer"]) if key is not None else (request, newest)
        purpose = "checkout" if key is not None else "plan"
        made = await create(params, scoped_key(purpose, account, *parts, closed))
        answer = await service_rpc(
            "remember_checkout",
            account_id=account, session_id=made.id, request=request, url=made.url,
            expires_at=stripe_api.moment(made.expires_at),
        )  # fmt: skip
        kept: Page | None = answer["session"]
        if kept is not None:
            for other in answer["close"]:
                await close(account, other, kept["id"])
            return kept
        closed = made.id  # the key brought back what it made once
    raise FunctionError(409, "This Idempotency-Key belongs to a checkout that is over; send a new key.")


async def found(session_id: str) -> Any:
    """The session as it is now; None when Stripe has none of that id, as after a change of mode."""
    try:
        return await stripe_api.client().v1.checkout.sessions.retrieve_async(session_id)
    except stripe.InvalidRequestError as error:
        if error.code != "resource_missing":
            raise
        return None


async def close(account: str, session_id: str, opened: str | None) -> None:
    """Expire a session. When it turns out to be paid, expire `opened`, too, and raise FunctionError 409."""
    session: Any = None
    try:
        await stripe_api.client().v1.checkout.sessions.expire_async(session_id)
    except stripe.InvalidRequestError:
        session = await found(session_id)
    if session is not None and session.status == "complete" and await subscribed(session):
        if opened is not None:
            await close(account, opened, None)
        await service_rpc("close_checkout", account_id=account, session_id=session_id)
        raise FunctionError(
            409, "You have a subscription already.", hint="Change or cancel it in the billing portal."
        )
    if session is not None and session.status == "open":
        raise unavailable("An earlier checkout could not be ended; try again in a moment.")
    await service_rpc("close_checkout", account_id=account, session_id=session_id)


async def subscribed(session: Any) -> bool:
    """Whether the subscription that a paid session began runs still. Notes what its messages tell."""
    await service_rpc("ingest_stripe_object", object=stripe_api.raw(session))
    subscription = await stripe_api.retrieve(str(session.subscription))
    await service_rpc("ingest_stripe_object", object=subscription)
    return subscription["status"] not in ENDED


async def checkout(request: Request) -> JSONResponse:
    """Answers with the session's id and the URL of the page to pay on."""
    user = verified_user(request)
    body = await read_json(request, FIELDS)
    origins = settings.redirect_origins()
    success_url = allowed_redirect(body.get("success_url"), "success_url", origins)
    cancel_url = allowed_redirect(body.get("cancel_url"), "cancel_url", origins)
    key = client_key(request)
    choice = {name: body[name] for name in CHOICE if body.get(name) is not None}

    async def opened(customer: str) -> Page:
        params = session_params(order, customer, success_url, cancel_url)
        if order["mode"] == "subscription":
            return await open_plan(order, params, key)
        # The customer is part of the key: a new one is another request.
        scoped = None if key is None else scoped_key("checkout", order["account_id"], key, customer, None)
        session = await create(params, scoped)
        return {"id": session.id, "url": str(session.url)}

    try:
        order = await ordered(user, choice)
        page = await with_customer(order, opened)
    except stripe.StripeError as error:
        raise stripe_api.failure(error) from None
    return JSONResponse(page)


app = function(checkout)
