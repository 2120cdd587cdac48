"""The ledger's scratch databases, with calls for the life of a generation job."""

import pytest

from tests.support.ledger import Ledger
from tests.support.studio import Studio


@pytest.fixture(scope="session")
def studio(ledger: Ledger) -> Studio:
    """A ledger to run jobs in."""
    return Studio(ledger)
