"""A local Stripe of its own, without the rest of the stack, and a shop that listens to its webhooks."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

from scripts.local.stack import ports
from scripts.local.stripe.control import Control
from scripts.local.stripe.world import API_VERSION
from tests.conftest import ROOT

KEY, SECRET = "sk_test_" + "0" * 24, "whsec_" + "0" * 24
JSON = dict[str, Any]


@dataclass
class Shop:
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
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the local Stripe ended"
            try:
                httpx.get(f"{self.base}/health", trust_env=False)
                return
            except httpx.TransportError:
                time.sleep(0.02)
        raise AssertionError("the local Stripe did not start")

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


@pytest.fixture(scope="package")
def _shop() -> Iterator[Shop]:
    shop = Shop("")

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            shop.received.append((body, self.headers["Stripe-Signature"]))
            self.send_response(shop.answers.pop(0) if shop.answers else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    shop.url = f"http://127.0.0.1:{server.server_port}/webhook"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield shop
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="package")
def _standin(_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    made = Standin(ports.ephemeral(), tmp_path_factory.mktemp("stripe") / "stripe.db", _shop.url)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def standin(_standin: Standin, request: pytest.FixtureRequest) -> Iterator[Standin]:
    """The local Stripe, running, with its settings as at first. Without the fixture `shop` nobody listens."""
    if "shop" not in request.fixturenames:
        with Control(_standin.base) as control:
            control.webhook_url(None)
    yield _standin
    if _standin.process is None or _standin.process.poll() is not None:
        _standin.start()
    with Control(_standin.base) as control:
        control.reset()
        control.webhook_url(None)
        control.forget_deliveries()
        control.settled()
    # What is left would happen in a later test that advances the clock.
    client = _standin.client().v1
    for subscription in client.subscriptions.list({"limit": 100}).auto_paging_iter():
        client.subscriptions.cancel(subscription.id)
    for session in client.checkout.sessions.list({"status": "open", "limit": 100}).auto_paging_iter():
        client.checkout.sessions.expire(session.id)
    with Control(_standin.base) as control:
        control.reset()


@pytest.fixture
def shop(_shop: Shop, standin: Standin) -> Shop:
    """The shop, with nothing received yet."""
    _shop.received.clear()
    _shop.answers.clear()
    return _shop


@pytest.fixture
def client(standin: Standin) -> stripe.StripeClient:
    """stripe-python's client."""
    return standin.client()


@pytest.fixture
def control(standin: Standin) -> Iterator[Control]:
    """The controls."""
    with Control(standin.base) as made:
        yield made


@pytest.fixture
def since(control: Control) -> Callable[[], list[str]]:
    """A function that gives the types of the events since the test began, oldest first."""
    before = control.last_event()
    return lambda: [event["type"] for event in control.events(after=before)]


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
