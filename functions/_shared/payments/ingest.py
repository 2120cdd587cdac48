"""Hands Stripe's events and objects to the database, which knows what they mean."""

import asyncio
import json
import logging
from typing import Any

import stripe

from ..database import service_rpc, service_rpc_raw
from ..errors import FunctionError
from . import stripe_api
from .second_subscriptions import settle_soon

log = logging.getLogger("functions")

# Stripe waits for some seconds only before it counts a delivery as failed.
REFRESH_SECONDS = 8

Outcome = dict[str, Any]


def is_unreadable(error: FunctionError) -> bool:
    """Whether the database refused the JSON itself: a NUL character, a number or a nesting beyond its limits.

    SQLSTATE class 22 is wrong data, class 54 a limit; PGRST102 is PostgREST's own refusal.
    """
    return error.code.startswith(("22", "54")) or error.code in ("PGRST102", "PT400")


async def ingest_event(body: bytes) -> Outcome:
    """Store an event and its effects, in one transaction.

    `body` is the event as Stripe sent it. Returns {"status": "applied", "ignored", "duplicate",
    "quarantined" or "failed", "reason": text or None}. Raises FunctionError: is_unreadable() tells the
    event's fault from ours.
    """
    outcome: Outcome = await service_rpc_raw("ingest_stripe_event", body)
    if outcome.get("refresh"):
        await _refresh(outcome["refresh"])
    if outcome.get("second"):
        await settle_soon(outcome["second"])
    return outcome


async def ingest_object(item: stripe_api.Object) -> Outcome:
    """The same effects from an object that was retrieved from Stripe.

    Returns {"status": "changed", "unchanged", "ignored", "quarantined" or "failed", "reason": text or None}.
    """
    outcome: Outcome = await service_rpc("ingest_stripe_object", object=item)
    return outcome


async def _refresh(object_id: str) -> None:
    """Ask Stripe how an object is now, where its events do not tell their order.

    A failure is logged by id, and left to reconciliation.
    """
    try:
        async with asyncio.timeout(REFRESH_SECONDS):
            outcome = await ingest_object(await stripe_api.retrieve(object_id))
    except (stripe.StripeError, FunctionError, TimeoutError, ValueError) as error:
        log.warning("%s could not be refreshed: %s", object_id, type(error).__name__)
        return
    if outcome["status"] in ("quarantined", "failed"):
        log.warning("%s could not be refreshed: %s", object_id, outcome["status"])


def as_body(event: stripe_api.Object) -> bytes:
    """An event from a list, as ingest_event() takes it."""
    return json.dumps(event, ensure_ascii=True, separators=(",", ":")).encode()
