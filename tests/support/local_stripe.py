"""A local Stripe of its own: its process, requests to it, and an endpoint for its webhooks."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import stripe

from scripts.local.stripe.control import Control
from scripts.local.stripe.world import API_VERSION
from tests.support.clock import until
from tests.support.served import answers
from tests.support.stack import ROOT

KEY, SECRET = "sk_test_" + "0" * 24, "whsec_" + "0" * 24


JSON = dict[str, Any]


@dataclass
class WebhookReceiver:
    """An endpoint that remembers what came. `answers` are the statuses of the next answers; then 200."""

    url: str
    received: list[tuple[bytes, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def events(self) -> list[stripe.Event]:
        """What came, in order, each verified by stripe-python."""
        return [stripe.Webhook.construct_event(body, header, SECRET) for body, header in self.received]

    def types(self) -> list[str]:
        return [event.type for event in self.events()]


@dataclass
class Standin:
    """The process, its client and its controls."""

    port: int
    database: Path
    webhook_url: str
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scripts.local.stripe", "--port", str(self.port), "--database",
             str(self.database), "--webhook-url", self.webhook_url],
            cwd=ROOT, env={**os.environ, "STRIPE_SECRET_KEY": KEY, "STRIPE_WEBHOOK_SECRET": SECRET},
        )  # fmt: skip
        until(partial(answers, f"{self.base}/health", self.process))

    def kill(self) -> None:
        """Kill -9."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=15)

    def client(self, key: str = KEY) -> stripe.StripeClient:
        return stripe.StripeClient(
            key, stripe_version=API_VERSION, base_addresses={"api": self.base}, max_network_retries=0
        )


def item(amount: int = 499, currency: str = "usd", quantity: int = 1, interval: str | None = None) -> JSON:
    """A line item. `amount` in minor units."""
    price: JSON = {"currency": currency, "unit_amount": amount, "product_data": {"name": "Starter <pack>"}}
    if interval:
        price["recurring"] = {"interval": interval}
    return {"price_data": price, "quantity": quantity}


def checkout(client: stripe.StripeClient, **more: Any) -> stripe.checkout.Session:
    """A session in mode payment for one item, changed by `more`."""
    params: JSON = {
        "mode": "payment", "line_items": [item()], "success_url": "https://shop.example/ok?s={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://shop.example/no", **more,
    }  # fmt: skip
    return client.v1.checkout.sessions.create(params)  # type: ignore[arg-type]


def subscribe(
    client: stripe.StripeClient, control: Control, amount: int = 2000, **more: Any
) -> stripe.Subscription:
    """A paid subscription, monthly."""
    line = item(amount, interval="month")
    session = checkout(client, mode="subscription", line_items=[line], **more)
    done = control.complete(session.id)
    return client.v1.subscriptions.retrieve(done["subscription"])
