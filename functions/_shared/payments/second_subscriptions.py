"""Second subscriptions: cancelled in Stripe, and refunded. Which one is a second is the database's word."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import stripe

from ..database import service_rpc
from ..errors import FunctionError
from . import stripe_api
from .customers import scoped_key
from .stripe_api import Object, client, pages, raw

log = logging.getLogger("functions")

ENDED = ("canceled", "incomplete_expired")
# Stripe tells for three days. One that is older when it is noticed was not made by an accident of checkouts.
RECENT = 3 * 24 * 3600
COMMENT = "A second subscription of this account."
SECONDS = 8  # as long as Stripe waits for an answer to its message


async def settle_soon(subscription_id: str) -> None:
    """Deal with a second subscription of which a message has told. What fails is left to reconciliation."""
    try:
        async with asyncio.timeout(SECONDS):
            for row in await _open(subscription_id):
                reason = await settle(row)
                if reason:
                    log.warning("Second subscription %s: %s", subscription_id, reason)
    except (stripe.StripeError, FunctionError, TimeoutError) as error:
        log.warning("Second subscription %s is not settled: %s", subscription_id, type(error).__name__)


async def settle_all() -> AsyncIterator[tuple[Object, str | None]]:
    """Deal with all of them. Yields each with what is left to a person, or None."""
    for row in await _open():
        try:
            yield row, await settle(row)
        except (stripe.InvalidRequestError, stripe.PermissionError) as error:
            yield row, f"Stripe refuses ({error.code or type(error).__name__}): cancel and refund it there."


async def _open(subscription_id: str | None = None) -> list[Object]:
    rows = await service_rpc("list_second_subscriptions", open_only=True)
    return [row for row in rows if subscription_id in (None, row["subscription_id"])]


async def settle(row: Object) -> str | None:
    """Cancel and refund one, a row of list_second_subscriptions(). Returns what is left to a person, or None.

    Harmless to repeat and to break off. While another call deals with it, it is left to that.
    """
    claim = {"account_id": row["account_id"], "subscription_id": row["subscription_id"]}
    if not await service_rpc("claim_second_subscription", **claim):
        return None
    try:
        return await _settle(row)
    finally:
        await service_rpc("claim_second_subscription", **claim, release=True)


async def _settle(row: Object) -> str | None:
    second_id = row["subscription_id"]
    named = {"account_id": row["account_id"], "subscription_id": second_id}
    first, second = await _subscription(row["first_id"]), await _subscription(second_id)
    if second is None:
        return "Stripe has no such subscription: refund it if it was paid, and close_second_subscription."
    if first is None or first["status"] in ENDED or not _overlap(first, second):
        # We had not heard of an end: it is the account's only one.
        if first is not None:
            await _ingest(first)
        await _ingest(second)
        await service_rpc("close_second_subscription", **named, outcome="kept")
        return None
    if second["status"] not in ENDED:
        if datetime.fromisoformat(row["noticed_at"]).timestamp() - second["created"] > RECENT:
            return f"It runs beside {row['first_id']} since long: cancel one of them in Stripe."
        second = await _cancelled(second_id)
    await _ingest(second)
    for intent in await _payments(second_id):
        if row["refund_at_once"]:
            await _refund(second_id, intent)
    for now in await _open(second_id):
        left = now["paid"] - now["refunded"]
        if left > 0:
            return f"It is cancelled; refund what was paid in Stripe: {left} {now['currency']} (minor units)."
    await service_rpc("close_second_subscription", **named, outcome="refunded")
    return None


def _overlap(first: Object, second: Object) -> bool:
    """Whether both ran at the same time. `first` runs still."""
    if second["ended_at"] is None or second["ended_at"] > first["created"]:
        return True
    # Within one second; or another call of ours was faster.
    return bool((second["cancellation_details"] or {}).get("comment") == COMMENT)


async def _subscription(subscription_id: str) -> Object | None:
    try:
        return raw(await client().v1.subscriptions.retrieve_async(subscription_id))
    except stripe.InvalidRequestError as error:
        if error.code != "resource_missing":
            raise
        return None


async def _cancelled(subscription_id: str) -> Object:
    try:
        details: Any = {"cancellation_details": {"comment": COMMENT}}
        return raw(await client().v1.subscriptions.cancel_async(subscription_id, details))
    except stripe.InvalidRequestError as error:
        if error.code != "resource_missing":
            raise
    # Somebody else was faster.
    return raw(await client().v1.subscriptions.retrieve_async(subscription_id))


async def _payments(subscription_id: str) -> list[str]:
    """The payment intents that paid for it. The database is told of all."""
    intents: list[str] = []
    paid = {"subscription": subscription_id, "status": "paid"}
    async for invoices in pages(client().v1.invoices.list_async, paid):
        for invoice in invoices:
            await _ingest(await stripe_api.with_all_lines(invoice))
            payments = {"invoice": invoice["id"], "status": "paid"}
            async for page in pages(client().v1.invoice_payments.list_async, payments):
                for payment in page:
                    await _ingest(payment)
                    intent = payment["payment"].get("payment_intent")
                    intents += [intent] if intent else []
    return intents


async def _refund(subscription_id: str, intent: str) -> None:
    params: Any = {
        "payment_intent": intent, "reason": "duplicate", "metadata": {"second_subscription": subscription_id},
    }  # fmt: skip
    options: Any = {"idempotency_key": scoped_key("refund", subscription_id, intent)}
    try:
        refund = await client().v1.refunds.create_async(params, options)
    except stripe.InvalidRequestError as error:
        # What is disputed goes back by the dispute.
        if error.code not in ("charge_already_refunded", "charge_disputed"):
            raise
    else:
        await _ingest(raw(refund))


async def _ingest(item: Object) -> None:
    await service_rpc("ingest_stripe_object", object=item)
