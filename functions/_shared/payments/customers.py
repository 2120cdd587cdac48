"""The Stripe customer of an account: made when it is needed, and made anew when Stripe has it no longer."""

import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import stripe

from ..database import service_rpc
from ..errors import FunctionError, unavailable
from . import stripe_api

log = logging.getLogger("functions")

Answer = TypeVar("Answer")

# How many deleted customers in a row are passed over: Stripe remembers a key for a day.
ATTEMPTS = 10


def scoped_key(purpose: str, *parts: str | None) -> str:
    """An idempotency key for Stripe that no other account can meet, whatever the client's own key is."""
    return f"{purpose}-{hashlib.sha256(repr(parts).encode()).hexdigest()}"


async def _new_customer(account_id: str, email: str | None) -> str:
    """Make a Stripe customer for the account and remember it. When two calls race, both get the same one."""
    params: dict[str, Any] = {"metadata": {"account_id": account_id}}
    if email:
        params["email"] = email
    # The address is part of the key: Stripe refuses a known key with other parameters.
    parts: list[str | None] = [account_id, email]
    for _ in range(ATTEMPTS):
        options: Any = {"idempotency_key": scoped_key("customer", *parts)}
        try:
            made = await stripe_api.client().v1.customers.create_async(params, options)  # type: ignore[arg-type]
        except stripe.InvalidRequestError as error:
            if error.param != "email" or "email" not in params:
                raise
            # An address that Stripe does not take must not keep its user from buying.
            del params["email"]
            parts = [account_id, None]
            continue
        try:
            return await _link(account_id, made.id, email)
        except FunctionError as error:
            if error.code != "PT409":
                raise
        # Deleted: the key brings back what it made once. All calls go on to the same next key.
        parts = [account_id, params.get("email"), made.id]
    raise unavailable("Stripe gives customers that were deleted; try again later.")


async def _link(account_id: str, customer: str, email: str | None) -> str:
    return str(
        await service_rpc("link_stripe_customer", account_id=account_id, customer_id=customer, email=email)
    )


async def tell_email(account_id: str, customer: str, email: str) -> None:
    """Give Stripe the user's address. One that Stripe does not take is logged, and asked about no more."""
    try:
        await stripe_api.client().v1.customers.update_async(customer, {"email": email})
    except stripe.InvalidRequestError as error:
        if error.param != "email":
            raise
        log.warning("Stripe does not take the e-mail address of %s.", customer)
    await _link(account_id, customer, email)


async def forget(customer: str) -> None:
    """Note that Stripe has this customer no longer, as its message would."""
    gone = {"id": customer, "object": "customer", "deleted": True}
    await service_rpc("ingest_stripe_object", object=gone)


async def with_customer(order: dict[str, Any], act: Callable[[str], Awaitable[Answer]]) -> Answer:
    """act(customer), once more with a new customer when Stripe says that there is no such one.

    `order` is an answer of prepare_checkout(): account_id, customer_id or null, email or null, tell_email.
    """
    account, customer = order["account_id"], order["customer_id"]
    try:
        if customer is None:
            customer = await _new_customer(account, order["email"])
        elif order["tell_email"]:
            await tell_email(account, customer, order["email"])
        return await act(customer)
    except stripe.InvalidRequestError as error:
        if not is_gone(error):
            raise
    # Its deletion was never told.
    await forget(customer)
    return await act(await _new_customer(account, order["email"]))


def is_gone(error: stripe.InvalidRequestError) -> bool:
    """Whether Stripe says that there is no such customer."""
    # By its words, too: the parameter is `id` where the customer is named in the path.
    return error.code == "resource_missing" and (
        error.param == "customer" or str(error.user_message or "").startswith("No such customer")
    )
