"""A shop that is open: a stack of its own, whose clock is Stripe's, with buyers and an operator."""

import os
from collections.abc import Iterator

import psycopg
import pytest

from scripts.local.stack import Stack, ports
from scripts.local.stack.processes import start_time
from tests.support import clock, official, prepared
from tests.support.shop import Shop
from tests.support.stack import NEEDED, ROOT, Env


@pytest.fixture(scope="session")
def _shop() -> Iterator[Shop]:
    if all(os.environ.get(name) for name in NEEDED):
        pytest.skip("needs an embedded stack to kill")
    for folder in (ROOT / ".stack").glob("shop-*"):
        pid = folder.name.removeprefix("shop-")
        if folder.is_dir() and pid.isdigit() and start_time(int(pid)) is None:
            Stack(ROOT, folder.name).stop(delete=True)
    stack = Stack(ROOT, f"shop-{os.getpid()}", ports.free_pair())
    try:
        prepared.start(stack)
        env = Env.of(stack)
        with psycopg.connect(env.db_url, autocommit=True) as owner:
            clock.install(owner, None)
        with env.stripe_control() as control:
            yield Shop(stack, env, control, env.stripe())
    finally:
        stack.stop(delete=True)


@pytest.fixture
def shop(_shop: Shop) -> Iterator[Shop]:
    """The shop, whole again after each test, and with nothing left that time would bring.

    Every request and every event of the test is held against Stripe's own description, where that is at hand.
    """
    before, asked = _shop.control.last_event(), _shop.control.requests()
    yield _shop
    _shop.stack.start()
    _shop.control.reset()
    _shop.control.forget_deliveries()
    requests = _shop.control.requests(after=asked[-1]["seq"] if asked else 0)
    assert [entry for entry in requests if entry["status"] >= 400] == []
    if official.SPEC.exists():
        official.check_requests(requests)
        for event in _shop.control.events(after=before):
            official.check_event(event)
    _shop.control.delivery("drop")
    client = _shop.stripe.v1
    for subscription in client.subscriptions.list({"limit": 100}).auto_paging_iter():
        client.subscriptions.cancel(subscription.id)
    for session in client.checkout.sessions.list({"status": "open", "limit": 100}).auto_paging_iter():
        client.checkout.sessions.expire(session.id)
    _shop.control.reset()
    assert _shop.broken() == []
