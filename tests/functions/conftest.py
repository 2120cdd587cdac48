"""The functions as an app and Stripe meet them, and single ones served with another environment."""

import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import stripe

from scripts.local.stack import Stack, ports
from scripts.local.stripe.control import Control
from tests.conftest import ROOT, Env, User
from tests.support import official

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


@dataclass(frozen=True)
class Served:
    """One function, served by itself."""

    url: str
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text()


@pytest.fixture(scope="session")
def function_environment(stack: Stack) -> dict[str, str]:
    """What the stack gives to its functions."""
    return stack.gateway_settings().function_environment()


@pytest.fixture(scope="session")
def serve(
    function_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Served]]:
    """A factory that starts a function as functions/README.md says.

    Keyword arguments change the environment that the stack gives; None takes a variable out.
    """
    logs = tmp_path_factory.mktemp("functions")
    with ExitStack() as resources:

        def start(name: str, **changes: str | None) -> Served:
            port = ports.ephemeral()
            given = {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT / "functions"),
                **function_environment,
                **changes,
            }
            log_file = logs / f"{name}-{port}.log"
            command = [
                sys.executable,
                "-m",
                "uvicorn",
                "--app-dir",
                f"functions/{name}",
                "--port",
                str(port),
                "index:app",
            ]
            with log_file.open("wb") as log:
                process = subprocess.Popen(
                    command, cwd=ROOT, stdout=log, stderr=log,
                    env={key: value for key, value in given.items() if value is not None},
                )  # fmt: skip
            resources.callback(process.wait, 10)
            resources.callback(process.terminate)
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 20
            while True:
                try:
                    HTTP.options(url)
                    return Served(url, log_file)
                except httpx.TransportError:
                    assert process.poll() is None and time.monotonic() < deadline, log_file.read_text()
                    time.sleep(0.05)

        yield start


@pytest.fixture(scope="session")
def closed_port() -> str:
    """A URL where nobody listens."""
    return f"http://127.0.0.1:{ports.ephemeral()}"


@pytest.fixture(scope="session")
def url(env: Env) -> Callable[[str], str]:
    """The URL of a function in the stack."""
    return lambda name: f"{env.functions_url}/{name}"


@pytest.fixture
def control(env: Env) -> Iterator[Control]:
    """The local Stripe's controls; all settings are reset afterwards.

    What the test asked of Stripe is held against Stripe's own description, where that is at hand.
    """
    with env.stripe_control() as made:
        asked = made.requests()
        yield made
        made.forget_deliveries()
        made.reset()
        if official.SPEC.exists():
            official.check_requests(made.requests(after=asked[-1]["seq"] if asked else 0))


@pytest.fixture
def plan(env: Env, db: "psycopg.Connection[Any]") -> Iterator[str]:
    """A plan of 300 credits a month with a trial, on sale while the test runs."""
    stripe = env.stripe().v1
    product = stripe.products.create({"name": "Monthly"})
    price = stripe.prices.create(
        {"product": product.id, "currency": "usd", "unit_amount": 1900, "recurring": {"interval": "month"}}
    )
    slug = f"plan-{uuid.uuid4().hex[:8]}"
    db.execute(
        "insert into public.subscription_plans "
        "(slug, name, credits, unit_amount, trial_days, stripe_price_id) "
        "values (%s, 'Monthly', 300, 1900, 7, %s)", [slug, price.id],
    )  # fmt: skip
    yield slug
    db.execute("update public.subscription_plans set active = false where slug = %s", [slug])


@pytest.fixture
def buy(url: Callable[[str], str], env: Env) -> Buy:
    """Asks for a session as a user, with an Idempotency-Key where one is given."""

    def ask(user: User, key: str | None = None, **body: Any) -> httpx.Response:
        headers = {**user.headers(env), **({} if key is None else {"Idempotency-Key": key})}
        return post(url("checkout"), {**PAGES, **body}, **headers)

    return ask


@pytest.fixture
def buyer(user: Callable[..., User], env: Env, url: Callable[[str], str]) -> Callable[..., tuple[User, str]]:
    """A factory: a user with an open Checkout session for a package. Returns both."""

    def make(package: str = "starter") -> tuple[User, str]:
        made = user()
        answer = post(url("checkout"), {"package": package, **PAGES}, **made.headers(env))
        assert answer.status_code == 200, answer.text
        return made, answer.json()["id"]

    return make


def balance(user: User) -> int:
    """What the user has."""
    return int(user.client.rpc("my_credits").execute().data["balance"])  # type: ignore[call-overload, index, arg-type]


@pytest.fixture
def paid(control: Control, buyer: Callable[..., tuple[User, str]]) -> tuple[User, dict[str, Any]]:
    """A user who has paid, and the event of it, which was not delivered."""
    control.delivery("drop")
    user, session = buyer()
    control.complete(session)
    events = control.events("checkout.session.completed")
    return user, next(event for event in events if event["data"]["object"]["id"] == session)


def ledger(db: "psycopg.Connection[Any]") -> tuple[Any, ...]:
    """What must not change: how many events, purchases and ledger rows there are, and their sum."""
    row = db.execute(
        "select (select count(*) from credits.stripe_events), (select count(*) from public.purchases), "
        "(select count(*) from public.credit_transactions), "
        "(select sum(amount) from public.credit_transactions)"
    ).fetchone()
    assert row
    return tuple(row)
