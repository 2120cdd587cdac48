"""Stripe's API: the client, its errors, and its lists."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import stripe

from .. import settings
from ..errors import FunctionError, unavailable

log = logging.getLogger("functions")
# At INFO the library logs what Stripe answered, which may quote a customer.
logging.getLogger("stripe").setLevel(logging.WARNING)

# What the SQL functions read and the tests validate. It goes with each request; the library's own is newer.
API_VERSION = "2026-08-26.dahlia"
SECONDS = 20.0
PAGE = 100

Object = dict[str, Any]
Listing = Callable[..., Awaitable[Any]]  # a list_async() of the library


@lru_cache(maxsize=1)
def _client(key: str, base: str | None) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        base_addresses={"api": base} if base else None,
        max_network_retries=2,
        http_client=stripe.HTTPXClient(timeout=SECONDS),
    )


def client() -> stripe.StripeClient:
    """The process's one client, with its pool of connections."""
    return _client(settings.stripe_secret_key(), settings.stripe_api_base())


def raw(answer: Any) -> Object:
    """What Stripe sent, as plain JSON values."""
    data: Object = answer.last_response.data
    return data


def moment(seconds: int) -> str:
    """Unix seconds as ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def failure(error: stripe.StripeError) -> FunctionError:
    """The answer for an error of Stripe's. Stripe's own sentence is neither passed on nor logged."""
    log.error(
        "Stripe: %s, status %s, code %s, param %s, request %s",
        type(error).__name__, error.http_status, error.code, getattr(error, "param", None), error.request_id,
    )  # fmt: skip
    if isinstance(error, stripe.IdempotencyError):
        return FunctionError(409, "This Idempotency-Key came with another request before; send a new key.")
    if error.http_status == 409:
        return FunctionError(409, "The same request is still under way; try again in a moment.")
    away = isinstance(error, stripe.APIConnectionError | stripe.RateLimitError)
    if away or (error.http_status or 0) >= 500:
        return unavailable("Stripe does not answer; try again in a moment.")
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return FunctionError(502, "Stripe refuses this project's key; check STRIPE_SECRET_KEY.")
    return FunctionError(502, "Stripe refused the request; the function's log names the reason.")


async def pages(listing: Listing, params: Object, cursor: str | None = None) -> AsyncIterator[list[Object]]:
    """The pages of a list from `cursor` on, newest first as Stripe gives them."""
    while True:
        after = {"starting_after": cursor} if cursor else {}
        page = raw(await listing(params={"limit": PAGE, **params, **after}))
        yield page["data"]
        if not page["has_more"] or not page["data"]:
            return
        cursor = page["data"][-1]["id"]


async def with_all_lines(invoice: Object) -> Object:
    """The invoice with every line: in an answer or an event Stripe puts the first few only."""
    lines = invoice["lines"]
    if not lines["has_more"]:
        return invoice

    def listing(**arguments: Any) -> Awaitable[Any]:
        return client().v1.invoices.line_items.list_async(invoice["id"], **arguments)

    data = [line async for page in pages(listing, {}) for line in page]
    return {**invoice, "lines": {**lines, "data": data, "has_more": False}}


async def retrieve(object_id: str) -> Object:
    """A subscription or an invoice as it is now. Raises StripeError, or ValueError for any other id."""
    if object_id.startswith("sub_"):
        return raw(await client().v1.subscriptions.retrieve_async(object_id))
    if object_id.startswith("in_"):
        return await with_all_lines(raw(await client().v1.invoices.retrieve_async(object_id)))
    raise ValueError("neither a subscription nor an invoice")
