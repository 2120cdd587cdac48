"""An account moves to another database while it is spent from: logical replication of its rows alone."""

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from scripts.checks import databases
from scripts.local.stack.postgres import Postgres
from tests.support.clock import until
from tests.support.ledger import Ledger
from tests.support.messages import Sale
from tests.support.stack import ROOT
from tests.support.studio import Studio
from tests.support.till import Till

# Those whose key begins with the account; all others are home tables (scripts/checks/keys.toml).
TABLES = """
    select t.oid::regclass::text
    from pg_class as t
    inner join pg_constraint as p on t.oid = p.conrelid and p.contype = 'p'
    inner join pg_attribute as a on t.oid = a.attrelid and a.attnum = p.conkey[1]
    where t.relnamespace in ('public'::regnamespace, 'credits'::regnamespace) and a.attname = 'account_id'
    order by 1
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server with wal_level = logical, as hosted projects have it."""
    with databases.postgres(ROOT) as server:
        with server.connect("template1") as admin:
            admin.execute("alter system set wal_level = 'logical'")
        server.stop()
        server.start()
        yield server


def publication(ledger: Ledger, account: str) -> str:
    """What supabase/README.md has an operator run, for this account."""
    tables = [f"{row['oid']} where (account_id = '{account}')" for row in ledger.rows(TABLES)]
    return (
        f"create publication move_account for table public.credit_accounts where (id = '{account}'), "
        + ", ".join(tables)
    )


def everything(ledger: Ledger, account: str) -> dict[str, list[Any]]:
    """All rows of the account."""
    found = {}
    for table, key in [
        ("public.credit_accounts", "id"),
        *((row["oid"], "account_id") for row in ledger.rows(TABLES)),
    ]:
        query = f"select to_jsonb(t) as row from {table} as t where {key} = %s order by to_jsonb(t)::text"
        found[table] = [row["row"] for row in ledger.rows(query, account)]
    return found


def test_an_account_moves_while_it_is_spent_from(postgres: Postgres) -> None:
    source_url = databases.database_from_migrations(ROOT, postgres)
    source_name = str(conninfo_to_dict(source_url)["dbname"])
    with Ledger(psycopg.connect(source_url, autocommit=True)) as source:
        operation = Studio(source).operation(price=1)
    postgres.create_database("elsewhere", source_name)  # with the prices and settings of the first
    with (
        Ledger(psycopg.connect(source_url, autocommit=True)) as source,
        Ledger(psycopg.connect(source_url, autocommit=True)) as spender,
        Ledger(psycopg.connect(postgres.url("elsewhere"), autocommit=True)) as target,
        postgres.connect(source_name) as admin,
        postgres.connect("elsewhere") as admin_there,
    ):
        studio, till = Studio(source), Till(source)
        people = [till.buyer() for _ in range(2)]
        for user, account in people:
            till.tell(Sale(account, credits=100_000).completed())
            spent = source.as_user(
                user, "consume_credits", operation=operation, quantity=5, idempotency_key="k"
            )
            source.as_service("refund", account_id=account, transaction_id=spent["id"], amount=2)
            source.as_user(user, "hold_credits", operation=operation, quantity=3)
            studio.finish(studio.dispatched(user, operation), "succeeded", 1)
        (user, account), (other, _) = people

        # The user, by Auth's own means; then the rows, and what comes while they are copied.
        target.rows("insert into auth.users (id, email) values (%s, 'ann@example.com')", user)
        target.rows("delete from public.credit_accounts where user_id = %s", user)
        source.rows(publication(source, account))
        admin.execute("select pg_create_logical_replication_slot('move_account', 'pgoutput')")
        stop, calls, errors = threading.Event(), [0], list[BaseException]()

        def spend() -> None:
            try:
                while not stop.is_set():
                    for who in (user, other):
                        spender.as_user(who, "consume_credits", operation=operation)
                    calls[0] += 1
                    if calls[0] % 20 == 0:
                        spender.rows("call credits.maintain(settle_after => '0')")
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=spend)
        thread.start()
        try:
            until(lambda: calls[0] > 20)
            admin_there.execute(
                sql.SQL(
                    "create subscription move_account connection {} publication move_account "
                    "with (create_slot = false, slot_name = 'move_account')"
                ).format(postgres.url(source_name, "supabase_admin"))
            )
            left = "select count(*) = 0 from pg_subscription_rel where srsubstate <> 'r'"
            until(lambda: admin_there.execute(left).fetchone() == (True,), seconds=60)
            copied = calls[0]
            until(lambda: calls[0] > copied + 20)
        finally:
            stop.set()
            thread.join(30)
        assert errors == []

        # Nothing more is spent here; what was on its way arrives.
        source.as_service("freeze_account", user_id=user, reason="moves")
        here = everything(source, account)
        frozen = "select frozen_at is not null from public.credit_accounts where id = %s"
        until(lambda: target.value(frozen, account))
        assert everything(target, account) == here
        assert len(here["credit_transactions"]) > 40
        assert all(here[table] for table in ("credits.ledger_seals", "credits.lot_payments", "purchases"))
        assert target.value("select count(*) from public.credit_accounts") == 1
        assert [
            row["id"]
            for row in target.rows("select distinct account_id::text as id from credit_transactions")
        ] == [account]
        admin_there.execute("drop subscription move_account")

        # It goes on there, with the same keys.
        target.as_service("unfreeze_account", user_id=user)
        last = max(row["id"] for row in here["credit_transactions"])
        again = target.as_user(user, "consume_credits", operation=operation, quantity=5, idempotency_key="k")
        assert again["id"] == min(
            row["id"] for row in here["credit_transactions"] if row["idempotency_key"] == "k"
        )
        assert target.as_user(user, "consume_credits", operation=operation)["id"] == last + 1
        target.rows("call credits.maintain(settle_after => '0')")
        assert target.broken() == source.broken() == []
