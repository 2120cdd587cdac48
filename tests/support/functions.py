"""The functions over HTTP: calls as apps and Stripe make them, and a function served by itself."""

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import stripe

from tests.support.stack import User

HTTP = httpx.Client(timeout=30, trust_env=False)


Buy = Callable[..., httpx.Response]


PAGES = {
    "success_url": "http://localhost:3000/thanks?session={CHECKOUT_SESSION_ID}",
    "cancel_url": "http://localhost:3000/",
}


def post(url: str, body: Any = None, **headers: str) -> httpx.Response:
    """POST JSON; keyword arguments become headers, with - for _."""
    return HTTP.post(
        url, json={} if body is None else body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def signed(payload: bytes, secret: str, at: float | None = None) -> dict[str, str]:
    """Stripe's headers for a body, made by Stripe's own library as far as it goes: it takes text only."""
    text = payload.decode("utf-8", errors="surrogateescape")
    stamp = int(time.time() if at is None else at)
    if text.isascii():
        header = stripe.WebhookSignature.generate_signature_header(text, secret, stamp)
    else:
        header = f"t={stamp},v1={hmac_of(payload, secret, stamp)}"
    return {"Stripe-Signature": header, "Content-Type": "application/json"}


def hmac_of(payload: bytes, secret: str, stamp: int) -> str:
    """A v1 signature."""
    return hmac.new(secret.encode(), f"{stamp}.".encode() + payload, hashlib.sha256).hexdigest()


def deliver(url: str, event: dict[str, Any], secret: str) -> httpx.Response:
    """Deliver an event as Stripe does."""
    payload = json.dumps(event).encode()
    return HTTP.post(url, content=payload, headers=signed(payload, secret))


def another(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The event under a new id, with changes."""
    return {**event, "id": f"evt_{uuid.uuid4().hex}", **changes}


def balance(user: User) -> int:
    """What the user has."""
    return int(user.client.rpc("my_credits").execute().data["balance"])  # type: ignore[call-overload, index, arg-type]


def ledger_figures(db: "psycopg.Connection[Any]") -> tuple[Any, ...]:
    """What must not change: how many events, purchases and ledger rows there are, and their sum."""
    row = db.execute(
        "select (select count(*) from credits.stripe_events), (select count(*) from public.purchases), "
        "(select count(*) from public.credit_transactions), "
        "(select sum(amount) from public.credit_transactions)"
    ).fetchone()
    assert row
    return tuple(row)
