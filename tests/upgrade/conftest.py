"""A Postgres of its own, and this project as the release before the next."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.checks import databases
from tests.support import upgrades
from tests.support.projects import Server, commit
from tests.support.stack import ROOT


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with databases.postgres(ROOT) as postgres:
        yield Server(postgres)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A repository with this project as v0.1.0, to which a test adds what comes next."""
    root = tmp_path / "next"
    root.mkdir()
    upgrades.copy(root)
    commit(root, "v0.1.0")
    upgrades.link(root)
    return root
