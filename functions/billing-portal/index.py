"""POST {"return_url"} -> {"url"}.

Stripe's page where the signed-in user sees invoices, changes how they pay, or cancels.
"""

import stripe
from starlette.requests import Request
from starlette.responses import JSONResponse

from _shared import settings, stripe_api
from _shared.app import function, read_json
from _shared.database import user_rpc
from _shared.redirects import allowed_redirect
from _shared.tokens import verified_user


async def billing_portal(request: Request) -> JSONResponse:
    """Answers with the URL, which is good for a short while. 404 for who has not bought anything yet."""
    user = verified_user(request)
    body = await read_json(request, ("return_url",))
    return_url = allowed_redirect(body.get("return_url"), "return_url", settings.redirect_origins())
    customer = await user_rpc(user, "my_stripe_customer")
    try:
        session = await stripe_api.client().v1.billing_portal.sessions.create_async(
            {"customer": customer, "return_url": return_url}
        )
    except stripe.StripeError as error:
        raise stripe_api.failure(error) from None
    return JSONResponse({"url": session.url})


app = function(billing_portal)
