"""How tests control time.

The ledger asks only credits.now() what time it is. In a database of the tests that function reads the clock
below: it stands still at START until a test moves it (Ledger.pass_time, Ledger.set_time). Where time has to
run, because Stripe's clock does, it keeps ahead of the wall clock (Shop.advance). Only the owner of
credits.now() can put a clock there; tests/ledger/test_clock.py shows that nobody else can.

The stack that all tests share keeps the wall clock. There a test makes a row older, or sets short terms. A
test waits with `until` for what another process does; it sleeps only to see that something does not happen.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))

# After any wall clock, so that nothing made before is in the clock's future.
START = datetime(2100, 1, 1, tzinfo=UTC)

CLOCK = """
create schema clock;
create table clock.clock (stands_at timestamptz, ahead interval not null default '0');
insert into clock.clock default values;
grant usage on schema clock to public;
grant select on clock.clock to public;
create or replace function credits.now() returns timestamptz language sql volatile set search_path = ''
as 'select coalesce(stands_at, clock_timestamp() + ahead) from clock.clock';
"""

Connection = psycopg.Connection[Any]


def install(connection: Connection, stands_at: datetime | None = START) -> None:
    """Give the database a clock that stands; without a moment, one that runs, and can be put ahead."""
    connection.execute(CLOCK)
    connection.execute("update clock.clock set stands_at = %s", [stands_at])


def pass_time(connection: Connection, by: timedelta) -> datetime:
    """Move the clock on, whether it stands or runs. Returns the new time."""
    row = connection.execute(
        "update clock.clock set stands_at = stands_at + %(by)s, ahead = ahead + %(by)s "
        "returning coalesce(stands_at, clock_timestamp() + ahead)", {"by": by},
    ).fetchone()  # fmt: skip
    assert row
    moment: datetime = row[0]
    return moment


def set_time(connection: Connection, at: datetime) -> None:
    """Let the clock stand at that moment, be it earlier or later."""
    connection.execute("update clock.clock set stands_at = %s", [at])


def until(condition: Callable[[], Any], seconds: float = 15, every: float = 0.03) -> Any:
    """Wait for something that another process does. Returns what the condition gives once that is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"it did not come about within {seconds} seconds"
        time.sleep(every)
