"""A database to be raced on."""

from collections.abc import Iterator

import psycopg
import pytest

from scripts.local.stack import Stack
from tests.support.sessions import Bank
from tests.support.stack import ROOT

NAME = "tests_concurrency"


@pytest.fixture(scope="session")
def _bank(stack: Stack, _migrated_template: str) -> Iterator[Bank]:
    url = stack.create_database(NAME, template=_migrated_template)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((ROOT / "supabase" / "seed.sql").read_bytes())
    made = Bank(url, stack.database_url(NAME, "authenticator"))
    yield made
    made.close()
    stack.drop_database(NAME)


@pytest.fixture
def bank(_bank: Bank) -> Iterator[Bank]:
    """A database with the seed's prices, which PostgREST does not serve: nothing but the test runs
    maintenance there.

    The tests share it, each with users of its own, and leave nothing to settle.
    """
    _bank.give_back()
    yield _bank
    _bank.give_back()
