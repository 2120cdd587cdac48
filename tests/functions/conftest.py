"""The functions as an app and Stripe meet them, and single ones served with another environment."""

import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import psycopg
import pytest

from scripts.local.stack import Stack, ports
from scripts.local.stripe.control import Control
from tests.support import official
from tests.support.functions import PAGES, Buy, post
from tests.support.served import Served, serving
from tests.support.stack import Env, User


@pytest.fixture(scope="session")
def function_environment(stack: Stack) -> dict[str, str]:
    """What the stack gives to its functions."""
    return stack.gateway_settings().function_environment()


@pytest.fixture(scope="session")
def serve(
    function_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Served]]:
    """A factory that starts a function as functions/README.md says.

    Keyword arguments change the environment that the stack gives; None takes a variable out. The first
    process is started as the page says, those after it are forked.
    """
    logs, count = tmp_path_factory.mktemp("functions"), itertools.count()
    with ExitStack() as resources:

        def start(name: str, **changes: str | None) -> Served:
            environment = {"PYTHONPATH": "functions", **function_environment, **changes}
            command = ["uvicorn", "--app-dir", f"functions/{name}", "index:app"]
            log_file = logs / f"{name}-{uuid.uuid4().hex}.log"
            return resources.enter_context(serving(command, environment, log_file, fork=next(count) > 0))

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
    """A plan of 300 credits per month with a trial, on sale while the test runs."""
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


@pytest.fixture
def paid(control: Control, buyer: Callable[..., tuple[User, str]]) -> tuple[User, dict[str, Any]]:
    """A user who has paid, and the event of it, which was not delivered."""
    control.delivery("drop")
    user, session = buyer()
    control.complete(session)
    events = control.events("checkout.session.completed")
    return user, next(event for event in events if event["data"]["object"]["id"] == session)
