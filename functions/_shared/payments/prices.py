"""Whether Stripe charges what the rows of packages and plans say. The comparison itself is SQL."""

from collections.abc import AsyncIterator
from typing import Any

import stripe

from ..database import service_rpc
from . import stripe_api

Differences = list[dict[str, Any]]


async def check_price(price_id: str) -> Differences:
    """Ask Stripe for a Price and tell the database. Returns the rows that differ, as note_stripe_price()."""
    price: Any = None
    try:
        price = stripe_api.raw(await stripe_api.client().v1.prices.retrieve_async(price_id))
    except stripe.InvalidRequestError as error:
        if error.code != "resource_missing":
            raise
    found: Differences = await service_rpc("note_stripe_price", price_id=price_id, price=price)
    return found


async def check_prices() -> AsyncIterator[tuple[str, Differences]]:
    """Each Price that a row names, with the rows that differ from it."""
    for price_id in await service_rpc("stripe_prices_to_check"):
        yield price_id, await check_price(price_id)


def as_problems(price_id: str, differences: Differences) -> list[dict[str, Any]]:
    """The rows that differ, as a reconciliation reports problems."""
    return [
        {
            "id": price_id,
            "kind": f"{row['kind']} {row['slug']} in {row['currency']}",
            "status": "differs",
            "reason": " ".join(row["differences"]),
        }
        for row in differences
    ]
