"""A stack of its own, to be killed."""

import os
from collections.abc import Iterator

import pytest

from scripts.local.stack import Stack, ports
from scripts.local.stack.processes import start_time
from tests.support import prepared
from tests.support.stack import NEEDED, ROOT


@pytest.fixture(scope="session")
def doomed() -> Iterator[Stack]:
    """A running stack, ticker included, that no other test uses."""
    if all(os.environ.get(name) for name in NEEDED):
        pytest.skip("needs an embedded stack to kill")
    for folder in (ROOT / ".stack").glob("crash-*"):
        pid = folder.name.removeprefix("crash-")
        if folder.is_dir() and pid.isdigit() and start_time(int(pid)) is None:
            Stack(ROOT, folder.name).stop(delete=True)
    made = Stack(ROOT, f"crash-{os.getpid()}", ports.free_pair())
    try:
        prepared.start(made)
        yield made
    finally:
        made.stop(delete=True)
