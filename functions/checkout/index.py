"""POST {"package" or "plan": slug, "quantity", "currency", "success_url", "cancel_url"} -> {"id", "url"}.

Opens a Stripe Checkout Session for the signed-in user. What it costs and who pays is prepare_checkout()'s
word; the caller names a slug only.
"""

import hashlib
from typing import Any

import stripe
from starlette.requests import Request
from starlette.responses import JSONResponse

from _shared import settings, stripe_api
from _shared.app import client_key, function, read_json
from _shared.database import service_rpc, user_rpc
from _shared.redirects import allowed_redirect
from _shared.tokens import User, verified_user

CHOICE = ("package", "plan", "quantity", "currency")
FIELDS = (*CHOICE, "success_url", "cancel_url")


def scoped_key(purpose: str, *parts: str | None) -> str:
    """An idempotency key for Stripe that no other account can meet, whatever the client's own key is."""
    return f"{purpose}-{hashlib.sha256(repr(parts).encode()).hexdigest()}"


async def new_customer(account_id: str, user: User) -> str:
    """Make a Stripe customer for the account and remember it. When two calls race, both get the same one."""
    params: dict[str, Any] = {"metadata": {"account_id": account_id}}
    if user.email:
        params["email"] = user.email
    # The address is part of the key: Stripe refuses a known key with other parameters.
    key = scoped_key("customer", account_id, user.email)
    made = await stripe_api.client().v1.customers.create_async(params, {"idempotency_key": key})  # type: ignore[arg-type]
    return str(await service_rpc("link_stripe_customer", account_id=account_id, customer_id=made.id))


def session_params(order: dict[str, Any], customer: str, success_url: str, cancel_url: str) -> dict[str, Any]:
    """The parameters of the Checkout Session. `order` is prepare_checkout()'s answer."""
    params: dict[str, Any] = {
        "mode": order["mode"],
        "customer": customer,
        "client_reference_id": order["account_id"],
        "line_items": [order["line_item"]],
        "allow_promotion_codes": True,
        "metadata": order["metadata"],
        "success_url": success_url,
        "cancel_url": cancel_url,
    }
    if order["mode"] == "payment":
        params["payment_intent_data"] = {"metadata": order["metadata"]}
    else:
        params["subscription_data"] = {"metadata": order["metadata"]}
        if order["trial_period_days"]:
            params["subscription_data"]["trial_period_days"] = order["trial_period_days"]
    return params


async def checkout(request: Request) -> JSONResponse:
    """Answers with the session's id and the URL of the page to pay on."""
    user = verified_user(request)
    body = await read_json(request, FIELDS)
    origins = settings.redirect_origins()
    success_url = allowed_redirect(body.get("success_url"), "success_url", origins)
    cancel_url = allowed_redirect(body.get("cancel_url"), "cancel_url", origins)
    key = client_key(request)
    choice = {name: body[name] for name in CHOICE if body.get(name) is not None}
    order = await user_rpc(user, "prepare_checkout", **choice)
    try:
        customer = order["customer_id"] or await new_customer(order["account_id"], user)
        params = session_params(order, customer, success_url, cancel_url)
        options = (
            {"idempotency_key": scoped_key("checkout", order["account_id"], key)} if key is not None else {}
        )
        session = await stripe_api.client().v1.checkout.sessions.create_async(params, options)  # type: ignore[arg-type]
    except stripe.StripeError as error:
        raise stripe_api.failure(error) from None
    return JSONResponse({"id": session.id, "url": session.url})


app = function(checkout)
