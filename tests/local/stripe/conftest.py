"""A local Stripe of its own, without the rest of the stack, and a shop that listens to its webhooks."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stripe

from scripts.local.stack import ports
from scripts.local.stripe.control import Control
from tests.support.local_stripe import Standin, WebhookReceiver


@pytest.fixture(scope="package")
def _shop() -> Iterator[WebhookReceiver]:
    shop = WebhookReceiver("")

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
def _standin(_shop: WebhookReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
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
def shop(_shop: WebhookReceiver, standin: Standin) -> WebhookReceiver:
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
