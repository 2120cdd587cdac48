"""A small checkout of its own, for tests that break the stack."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.local.stack import ports
from tests.support.projects import Checkout, make_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A checkout whose stack is not running, where paths and new files are as awkward as they get."""
    root = tmp_path / "a checkout, d'été"
    make_checkout(root)
    made = Checkout(root, ports.free_pair(), umask=0o077)
    yield made
    made.stack.stop(delete=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout whose stack runs, shared by the tests of a module. Each leaves it running."""
    root = tmp_path_factory.mktemp("running") / "checkout"
    make_checkout(root)
    made = Checkout(root, ports.free_pair())
    made.start()
    yield made
    made.stack.stop(delete=True)
