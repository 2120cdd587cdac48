"""Callers of every kind, and the allowlist that says what each may do."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from scripts.checks import catalog
from scripts.local.stack import Stack
from tests.support.messages import Contract, Plan, Sale
from tests.support.rest import Caller, Person
from tests.support.stack import Database, Env, User


@pytest.fixture(scope="session")
def allowed() -> catalog.Grants:
    return catalog.allowlist()


@pytest.fixture(scope="session")
def rest(env: Env) -> str:
    return f"{env.api_url}/rest/v1"


@pytest.fixture(scope="session")
def anon(env: Env, rest: str) -> Caller:
    return Caller("anon", rest, {"apikey": env.publishable_key})


@pytest.fixture(scope="session")
def operator(env: Env, rest: str) -> Caller:
    return Caller("service_role", rest, {"apikey": env.secret_key})


@pytest.fixture(scope="session")
def prices(env: Env) -> Iterator[str]:
    """An operation that is on sale while the tests run."""
    with psycopg.connect(env.db_url, autocommit=True) as db:
        db.execute(
            "insert into public.pricing_tiers (operation, provider, model, credits_per_unit) "
            "values ('security_test', 'nobody', 'nothing', 1)"
        )
        yield "security_test"
        db.execute("delete from public.pricing_tiers where operation = 'security_test'")


@pytest.fixture
def person(
    user: Callable[..., User], env: Env, operator: Caller, rest: str, prices: str
) -> Callable[[], Person]:
    """A factory of people: each has a grant, a spend, an open hold and a captured one, a generation job, a
    purchase and a subscription.
    """

    def make() -> Person:
        made = user()
        caller = Caller("authenticated", rest, made.headers(env))
        key = f"key of {made.id}"
        granted = operator.rpc("grant_credits", user_id=made.id, amount=100, source="purchase")
        spent = caller.rpc("consume_credits", operation=prices, quantity=3, idempotency_key=key)
        held = caller.rpc("hold_credits", operation=prices, quantity=2)
        used = caller.rpc("hold_credits", operation=prices, quantity=4)
        account = spent.json()["account_id"]
        captured = operator.rpc("capture_hold", account_id=account, hold_id=used.json()["id"])
        job = caller.rpc("begin_generation", operation=prices, quantity=1, request="0" * 64)
        asked = operator.rpc("dispatch_generation", account_id=account, job_id=job.json()["id"])
        failed = operator.rpc(
            "finish_generation", account_id=account, job_id=job.json()["id"], outcome="failed"
        )
        for answer in (granted, spent, held, used, captured, job, asked, failed):
            assert answer.status_code == 200, answer.text
        sale = Sale(account, credits=10)
        contract = Contract(account, Plan("basic", "price_none", 1, 1), datetime.now(UTC))
        for message in (*sale.completed(), contract.subscription("created")):
            told = operator.send("POST", "rpc/ingest_stripe_event", json=message)
            assert told.json()["status"] == "applied", told.text
        secrets = (
            made.id, account, held.json()["id"], used.json()["id"], key, job.json()["id"], sale.session,
            contract.id,
        )  # fmt: skip
        return Person(caller, made, account, spent.json()["id"], held.json()["id"], key, secrets)

    return make


@pytest.fixture(scope="module")
def module_db(stack: Stack, _migrated_template: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with the migrations applied, shared by a module's tests, which undo what they do."""
    name = f"module_{request.module.__name__.rpartition('.')[2]}"
    url = stack.create_database(name, template=_migrated_template)
    yield Database(name, url, stack.database_url(name, "supabase_admin"))
    stack.drop_database(name)
