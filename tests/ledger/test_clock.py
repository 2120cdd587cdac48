"""Time is the tests' to move in scratch databases, and nobody's in production."""

import psycopg
import pytest

from tests.support.ledger import Ledger, Refused
from tests.support.stack import Env

ROLES = ["anon", "authenticated", "service_role", "pricing_admin"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "attempt",
    [
        "create or replace function credits.now() returns timestamptz language sql "
        "as 'select null::timestamptz'",
        "drop function credits.now() cascade",
        "alter function credits.now() rename to later",
        # Functions name the clock with its schema, so that one in another schema does not stand in its way.
        "create function public.now() returns timestamptz language sql as 'select null::timestamptz'",
        "create schema clock",
    ],
)
def test_nobody_but_the_owner_replaces_the_clock(ledger: Ledger, role: str, attempt: str) -> None:
    with ledger.connection.transaction(force_rollback=True):
        ledger.rows(f"grant {role} to current_user")
        ledger.rows(f"set local role {role}")
        with pytest.raises(Refused) as caught:
            ledger.rows(attempt)
    assert caught.value.code == "42501"


def test_no_setting_moves_time(env: Env) -> None:
    """The production clock asks the machine and reads no setting."""
    with psycopg.connect(env.db_url, autocommit=True) as connection:
        source = connection.execute(
            "select prosrc from pg_proc where oid = 'credits.now()'::regprocedure"
        ).fetchone()
    assert source
    assert source[0].strip() == "select clock_timestamp();"
