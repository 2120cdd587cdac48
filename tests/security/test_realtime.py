"""What Realtime would send, and to whom."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.support.rest import Person

Connection = psycopg.Connection[Any]


def test_only_accounts_are_published(db: Connection) -> None:
    rows = db.execute(
        "select pubname, schemaname, tablename, rowfilter from pg_publication_tables "
        "where schemaname in ('public', 'credits')"
    ).fetchall()
    assert rows == [("supabase_realtime", "public", "credit_accounts", None)]
    published = db.execute(
        "select puballtables, pubviaroot from pg_publication where pubname = 'supabase_realtime'"
    ).fetchone()
    assert published == (False, False)


def test_old_rows_carry_the_primary_key_only(db: Connection) -> None:
    """Realtime does not ask the policy about a deleted row: it sends its key to every subscriber."""
    rows = db.execute(
        "select c.relreplident, (select array_agg(a.attname::text) from pg_index as i "
        "inner join pg_attribute as a on i.indrelid = a.attrelid and a.attnum = any(i.indkey) "
        "where i.indrelid = c.oid and i.indisprimary) "
        "from pg_class as c where c.oid = 'public.credit_accounts'::regclass"
    ).fetchone()
    assert rows == (b"d", ["id"]) or rows == ("d", ["id"])


def seen(db: Connection, role: str, user_id: str | None, account_id: str) -> dict[str, Any] | None:
    """The row as Realtime decides about it for a subscriber, or None.

    As realtime.apply_rls does: columns by has_column_privilege, and, as the subscriber's role with their
    claims, whether the row with that primary key can be selected.
    """
    with db.transaction(force_rollback=True):
        claims = {"role": role, **({"sub": user_id} if user_id else {})}
        db.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
        db.execute(f"set local role {role}")
        columns = db.execute(
            "select attname::text from pg_attribute where attrelid = 'public.credit_accounts'::regclass "
            "and attnum > 0 and not attisdropped and has_column_privilege(attrelid, attnum, 'select')"
        ).fetchall()
        if not columns:
            return None
        row = db.execute(
            "select to_jsonb(a) from public.credit_accounts as a where id = %s", [account_id]
        ).fetchone()
        return {name: row[0][name] for (name,) in columns} if row else None


@pytest.mark.parametrize("attempt", ["spent", "new"])
def test_a_change_is_sent_to_its_owner_only(
    person: Callable[[], Person], db: Connection, attempt: str
) -> None:
    ann, bob = person(), person()
    if attempt == "spent":
        ann.caller.rpc("consume_credits", operation="security_test", quantity=1)
    sent = seen(db, "authenticated", ann.user.id, ann.account_id)
    assert sent and sent["user_id"] == ann.user.id
    for role, user_id in (
        ("authenticated", bob.user.id),
        ("authenticated", None),
        ("anon", None),
        ("anon", ann.user.id),
    ):
        assert seen(db, role, user_id, ann.account_id) is None, (role, user_id)


def test_a_frozen_account_tells_its_owner_and_nobody_else(
    person: Callable[[], Person], db: Connection
) -> None:
    ann, bob = person(), person()
    db.execute("select public.freeze_account(%s, 'chargeback')", [ann.user.id])
    sent = seen(db, "authenticated", ann.user.id, ann.account_id)
    assert sent and sent["frozen_reason"] == "chargeback"
    assert seen(db, "authenticated", bob.user.id, ann.account_id) is None
