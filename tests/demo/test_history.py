"""scripts/demo --history: ninety days of a ledger that is right, the same for the same seed."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from scripts import demonstration, history
from scripts.local.stack import Stack
from tests.support.stack import ROOT, Database

LIVED = """
    select n.email, t.id, t.kind::text, t.amount, t.operation, t.quantity
    from public.credit_transactions t
    join public.credit_accounts a on a.id = t.account_id join auth.users n on n.id = a.user_id
    where t.created_at < date_trunc('day', now(), 'UTC')
    order by 1, 2
"""


def rows(database: Database, query: str) -> list[Any]:
    with psycopg.connect(database.url) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.fixture
def shop(scratch_db: Database) -> Database:
    """A database where something is on sale."""
    with psycopg.connect(scratch_db.url, autocommit=True) as owner:
        owner.execute((ROOT / "supabase" / "seed.sql").read_bytes())
    return scratch_db


def test_it_lives_ninety_days_and_leaves_the_clock(shop: Database) -> None:
    clock = rows(shop, "select pg_get_functiondef('credits.now()'::regprocedure)")
    done = history.fill(shop.url, users=12, seed=7)
    assert done["users"] == 12 and done["spends"] > 200 and done["purchases"] > 5
    assert rows(shop, "select pg_get_functiondef('credits.now()'::regprocedure)") == clock
    assert rows(shop, "select * from public.verify_ledger()") == []
    kinds = dict(rows(shop, "select kind::text, count(*) from public.credit_transactions group by kind"))
    assert kinds.keys() >= {"grant", "spend", "capture", "refund", "expiry"}
    ((first, last),) = rows(shop, "select min(created_at), max(created_at) from public.credit_transactions")
    now = datetime.now(UTC)
    assert now - timedelta(days=91) < first < now - timedelta(days=60) and last <= now
    for table in ("public.credit_accounts", "public.purchases", "credits.usage_logs"):
        assert rows(shop, f"select count(*) from {table} where created_at > now()") == [(0,)]
        ((oldest,),) = rows(shop, f"select min(created_at) from {table}")
        assert oldest < now - timedelta(days=30), table
    for column, least in (("operation", 4), ("provider", 3)):
        assert rows(shop, f"select count(distinct {column}) >= {least} from credits.daily_usage") == [(True,)]
    assert rows(shop, "select count(*) > 1 from public.subscriptions") == [(True,)]
    assert rows(shop, "select count(*) from credits.stripe_events where status <> 'applied'") == [(0,)]

    with pytest.raises(history.HistoryError, match="already"):
        history.fill(shop.url, users=12, seed=7)
    history.fill(shop.url, users=2, seed=8)
    assert rows(shop, "select count(*) from auth.users") == [(14,)]


def test_the_same_seed_does_the_same(stack: Stack, shop: Database, _migrated_template: str) -> None:
    url = stack.create_database("history_again", template=_migrated_template)
    try:
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute((ROOT / "supabase" / "seed.sql").read_bytes())
        other = Database("history_again", url, url)
        for database in (shop, other):
            history.fill(database.url, users=4, seed=3)
        assert rows(shop, LIVED) == rows(other, LIVED) != []
    finally:
        stack.drop_database("history_again")


def test_what_it_cannot_do_is_one_sentence(
    scratch_db: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(history.HistoryError, match=r"nothing on sale: load supabase/seed\.sql"):
        history.fill(scratch_db.url, users=1)
    assert rows(scratch_db, "select count(*) from auth.users") == [(0,)]
    for users in (0, -1, 1001):
        with pytest.raises(history.HistoryError, match="from 1 to 1000"):
            history.fill(scratch_db.url, users=users)
    monkeypatch.setattr(sys, "argv", ["demo", "--history", "--stack", "not-there"])
    assert demonstration.main() == 1
    assert "scripts/demo: The stack `not-there` is not running" in capsys.readouterr().err
