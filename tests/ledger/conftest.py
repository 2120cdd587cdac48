"""Scratch databases whose clock the test moves, and the API for what a client does."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from scripts.local_stack import Stack
from tests.conftest import ROOT, Database, Env
from tests.ledger.direct import CLOCK, Ledger

HTTP = httpx.Client(trust_env=False, timeout=20)


@dataclass(frozen=True)
class Answer:
    """What PostgREST answered. `details` is parsed."""

    status: int
    body: Any

    @property
    def code(self) -> str:
        """SQLSTATE or PostgREST's own code."""
        return str(self.body["code"])

    @property
    def details(self) -> Any:
        """The figures of a refusal."""
        return json.loads(self.body["details"])


@dataclass(frozen=True)
class Api:
    """The REST API with one token."""

    url: str
    headers: dict[str, str]

    def rpc(self, function: str, **arguments: Any) -> Answer:
        """Call a function."""
        answer = HTTP.post(f"{self.url}/rest/v1/rpc/{function}", json=arguments, headers=self.headers)
        return Answer(answer.status_code, answer.json())

    def ok(self, function: str, **arguments: Any) -> Any:
        """Call a function that must succeed."""
        answer = self.rpc(function, **arguments)
        assert answer.status == 200, answer.body
        return answer.body


@pytest.fixture(scope="session")
def operator(env: Env) -> Api:
    """The API with the service_role key."""
    key = env.service_role_key
    return Api(env.api_url, {"apikey": key, "Authorization": f"Bearer {key}"})


@pytest.fixture(scope="session")
def _clocked_template(stack: Stack, _migrated_template: str) -> Iterator[str]:
    """A database with migrations, seed, a flat price and a clock that stands still, to copy from."""
    name = "tests_clocked"
    url = stack.create_database(name, template=_migrated_template)
    seed: Path = ROOT / "supabase" / "seed.sql"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(seed.read_bytes())
        connection.execute(CLOCK)
        connection.execute(
            "insert into public.pricing_tiers (operation, provider, model, credits_per_unit) "
            "values ('one', 'test', 'test', 1), ('fraction', 'test', 'test', 0.3)"
        )
        connection.execute("update credits.billing_settings set signup_bonus = 0")
    yield name
    stack.drop_database(name)


def _connect(database: Database) -> Ledger:
    # Nothing here has to outlive a crash.
    return Ledger(psycopg.connect(database.url, autocommit=True, options="-c synchronous_commit=off"))


def _scratch(stack: Stack, template: str) -> Iterator[Database]:
    name = f"clocked_{uuid.uuid4().hex[:12]}"
    url = stack.create_database(name, template=template)
    yield Database(name, url, stack.database_url(name, "supabase_admin"))
    stack.drop_database(name)


@pytest.fixture(scope="session")
def _shared_db(stack: Stack, _clocked_template: str) -> Iterator[Database]:
    yield from _scratch(stack, _clocked_template)


@pytest.fixture(scope="session")
def ledger(_shared_db: Database) -> Iterator[Ledger]:
    """A database with a clock that only tests move, shared: a test makes its own users, and sets nothing
    for all.
    """
    with _connect(_shared_db) as made:
        yield made


@pytest.fixture
def own_db(stack: Stack, _clocked_template: str) -> Iterator[Database]:
    """The same as a database of the test's own, for those who change settings."""
    yield from _scratch(stack, _clocked_template)


@pytest.fixture
def own_ledger(own_db: Database) -> Iterator[Ledger]:
    """The ledger in a database of the test's own."""
    with _connect(own_db) as made:
        yield made


@pytest.fixture(scope="module")
def module_db(stack: Stack, _clocked_template: str) -> Iterator[Database]:
    """A database of the test file's own, for those who undo what they do."""
    yield from _scratch(stack, _clocked_template)
