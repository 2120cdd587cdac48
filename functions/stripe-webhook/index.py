"""POST from Stripe: an event, signed. -> {"received": true, "status"}.

Passes the body as it came to ingest_stripe_event(). 2xx tells Stripe that it is kept; anything else makes
Stripe deliver it again, for three days.
"""

import json
import math

from starlette.requests import Request
from starlette.responses import JSONResponse

from _shared import settings
from _shared.app import function, read_body
from _shared.errors import FunctionError, unavailable
from _shared.payments.ingest import ingest_event, is_unreadable
from _shared.payments.signature import is_signed

BODY_LIMIT = 1024 * 1024


def _finite(number: str) -> float:
    """A number of the body as a float; JSON knows no infinity, and neither does the database."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def is_event(payload: str) -> bool:
    """Whether the payload is a JSON object that calls itself an event."""
    try:
        event = json.loads(payload, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(event, dict)
        and event.get("object") == "event"
        and all(isinstance(event.get(name), str) and event[name] for name in ("id", "type"))
        and isinstance(event.get("data"), dict)
        and isinstance(event["data"].get("object"), dict)
    )


async def webhook(request: Request) -> JSONResponse:
    """Answers 200 when the event is kept, 400 or 413 when it never will be, 500 or 503 to get it again."""
    secrets = settings.webhook_secrets()
    body = await read_body(request, BODY_LIMIT)
    try:
        payload = body.decode()
    except UnicodeDecodeError:
        raise FunctionError(400, "The body is not UTF-8.") from None
    if not is_signed(payload, request.headers.get("stripe-signature", ""), secrets):
        raise FunctionError(
            400, "The Stripe-Signature header does not fit this body, this endpoint's secret, or now."
        )
    if not is_event(payload):
        raise FunctionError(400, "The body is not an event of Stripe's.")
    try:
        outcome = await ingest_event(body)
    except FunctionError as error:
        if is_unreadable(error):
            raise FunctionError(400, f"The database cannot read this event ({error.code}).") from None
        # Whatever it is, it is ours: keep the database's words, and have Stripe send it again.
        raise unavailable(f"The event could not be stored now ({error.code}).") from None
    if outcome["status"] == "failed":
        raise FunctionError(500, "The event is stored, and its effects failed; they will be tried again.")
    return JSONResponse({"received": True, "status": outcome["status"]})


app = function(webhook)
