"""The ledger's scratch databases, with what Stripe's messages need."""

from datetime import UTC, datetime

import pytest

from tests.support.ledger import Ledger
from tests.support.till import Till


@pytest.fixture(scope="session")
def till(ledger: Ledger) -> Till:
    """A ledger to tell messages to."""
    return Till(ledger)


@pytest.fixture
def year_till(own_ledger: Ledger) -> Till:
    """A till in a database of the test's own, where a year has just begun."""
    own_ledger.set_time(datetime(2101, 1, 1, tzinfo=UTC))
    return Till(own_ledger)


@pytest.fixture
def own_till(own_ledger: Ledger) -> Till:
    """A till in a database of the test's own, where a fraud warning freezes."""
    own_ledger.rows("update credits.billing_settings set freeze_on_fraud_warning = true")
    return Till(own_ledger)
