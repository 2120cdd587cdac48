"""A Postgres of its own: migrations change roles, which belong to the whole cluster."""

from collections.abc import Iterator

import pytest

from scripts.checks import databases
from tests.support.projects import Server
from tests.support.stack import ROOT


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with databases.postgres(ROOT) as postgres:
        yield Server(postgres)


@pytest.fixture(scope="session")
def migrated(server: Server) -> str:
    """The URL of a database made from the migrations, for tests that only look."""
    return databases.database_from_migrations(ROOT, server.postgres)
