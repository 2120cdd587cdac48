"""credits.count_call: what is limited by the minute."""

import threading
from datetime import timedelta
from typing import Any

import psycopg

from tests.support.clock import MINUTE, SECOND, until
from tests.support.ledger import Ledger, buyer
from tests.support.stack import Database

COUNT = "select calls from credits.count_call(%s, 'checkout')"


def test_each_minute_counts_anew(own_ledger: Ledger) -> None:
    ledger = own_ledger
    one, other = (ledger.account(buyer(ledger, 1))["id"] for _ in range(2))
    ledger.pass_time(30 * SECOND)
    assert [ledger.value(COUNT, account) for account in (one, one, other)] == [1, 2, 1]
    assert ledger.value("select retry_after from credits.count_call(%s, 'checkout')", one) == 30
    assert ledger.value("select calls from credits.count_call(%s, 'generation')", one) == 1
    ledger.pass_time(30 * SECOND - timedelta(microseconds=1))
    assert ledger.value(COUNT, one) == 4
    ledger.pass_time(timedelta(microseconds=1))
    assert [ledger.value(COUNT, one), ledger.value(COUNT, one)] == [1, 2]
    ledger.pass_time(10 * MINUTE)
    assert ledger.value(COUNT, one) == 1


def test_a_call_that_waited_past_the_end_of_a_minute_counts_in_the_next(
    own_db: Database, own_ledger: Ledger
) -> None:
    """Or it would take the count back into the minute before, and the one that has begun would count anew."""
    ledger = own_ledger
    account = ledger.account(buyer(ledger, 1))["id"]
    ledger.pass_time(MINUTE - SECOND)
    with psycopg.connect(own_db.url) as first, Ledger(psycopg.connect(own_db.url, autocommit=True)) as second:
        first.execute(COUNT, (account,))
        late: list[Any] = []
        thread = threading.Thread(target=lambda: late.append(second.value(COUNT, account)))
        thread.start()
        backend = second.connection.info.backend_pid
        until(lambda: ledger.value("select cardinality(pg_blocking_pids(%s)) > 0", backend))
        ledger.pass_time(SECOND)
        assert first.execute(COUNT, (account,)).fetchone() == (1,)
        first.commit()
        thread.join(10)
    assert late == [2]
    assert ledger.value(COUNT, account) == 3
