"""POST {"return_url", "flow"} -> {"url"}.

Stripe's page where the signed-in user sees invoices, changes how they pay, or cancels. With a flow ("cancel",
"change" or "payment_method") it is the page for that one thing.
"""

from typing import Any

import stripe
from starlette.requests import Request
from starlette.responses import JSONResponse

from _shared import settings
from _shared.app import function, read_json
from _shared.database import user_rpc
from _shared.errors import FunctionError
from _shared.payments import stripe_api
from _shared.payments.customers import forget, is_gone, tell_email
from _shared.redirects import allowed_redirect
from _shared.tokens import verified_user

FLOWS = {"cancel": "subscription_cancel", "change": "subscription_update"}


def flow_data(flow: str, subscription_id: str | None, return_url: str) -> dict[str, Any]:
    """What Stripe calls the flow. When it is done, people go back to the app."""
    kind = FLOWS.get(flow, "payment_method_update")
    data: dict[str, Any] = {
        "type": kind, "after_completion": {"type": "redirect", "redirect": {"return_url": return_url}},
    }  # fmt: skip
    return data if subscription_id is None else {**data, kind: {"subscription": subscription_id}}


async def billing_portal(request: Request) -> JSONResponse:
    """Answers with the URL, which is good for a short while. 404 for who has not bought anything yet."""
    user = verified_user(request)
    body = await read_json(request, ("return_url", "flow"))
    return_url = allowed_redirect(body.get("return_url"), "return_url", settings.redirect_origins())
    flow = body.get("flow")
    wanted = await user_rpc(user, "prepare_portal", flow=flow)
    customer = wanted["customer_id"]
    params: dict[str, Any] = {"customer": customer, "return_url": return_url}
    if flow is not None:
        params["flow_data"] = flow_data(flow, wanted["subscription_id"], return_url)
    try:
        if wanted["tell_email"]:
            await tell_email(wanted["account_id"], customer, wanted["email"])
        session = await stripe_api.client().v1.billing_portal.sessions.create_async(params)  # type: ignore[arg-type]
    except stripe.StripeError as error:
        if isinstance(error, stripe.InvalidRequestError) and is_gone(error):
            await forget(customer)
            raise FunctionError(
                404, "Stripe has no records of you any more.", hint="Buy a package or subscribe first."
            ) from None
        raise stripe_api.failure(error) from None
    return JSONResponse({"url": session.url})


app = function(billing_portal)
