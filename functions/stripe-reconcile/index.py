"""POST {"sweep", "days"} with the secret key: makes up for what webhooks have missed (_shared/payments/).

Answers with a line of JSON for each step, so that nothing on the way takes a long run for a dead one:
{"progress": …} while it works, and {"report": …} or an error such as {"message", "error", "code"} at the end.
"""

import json
import logging
from collections.abc import AsyncIterator

import stripe
from starlette.requests import Request
from starlette.responses import StreamingResponse

from _shared import settings
from _shared.app import function, read_json
from _shared.errors import FunctionError
from _shared.payments import stripe_api
from _shared.payments.reconcile import DAYS, Options, reconcile
from _shared.tokens import require_service

log = logging.getLogger("functions")


def options(body: dict[str, object]) -> Options:
    """{"sweep": bool, "days": int}, both optional. Raises FunctionError 400."""
    sweep, days = body.get("sweep", False), body.get("days", DAYS)
    if not isinstance(sweep, bool):
        raise FunctionError(400, "sweep is true or false.")
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 3650:
        raise FunctionError(400, "days is a whole number from 1 to 3650.")
    return Options(sweep, days)


async def lines(chosen: Options) -> AsyncIterator[str]:
    """The run, a line of JSON a step."""
    try:
        async for step in reconcile(chosen):
            yield json.dumps(step) + "\n"
    except stripe.StripeError as error:
        yield json.dumps(stripe_api.failure(error).body()) + "\n"
    except FunctionError as error:
        log.error("Reconciliation stopped: %s %s", error.code, error.message)
        yield json.dumps(error.body()) + "\n"


async def stripe_reconcile(request: Request) -> StreamingResponse:
    """Answers 200 as soon as it starts: whether all is well is the report's `ok`."""
    require_service(request)
    chosen = options(await read_json(request, ("sweep", "days")))
    settings.stripe_secret_key()  # complain now, while there is a status to say it with
    return StreamingResponse(lines(chosen), media_type="application/x-ndjson")


app = function(stripe_reconcile)
