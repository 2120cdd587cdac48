"""Ninety days of use for a local stack: what `scripts/demo --history` does. The life is history.sql."""

from pathlib import Path
from typing import Any

import bcrypt
import psycopg

PASSWORD = "correct horse battery"  # noqa: S105 (of users that are made up)
LIFE = Path(__file__).with_suffix(".sql")


class HistoryError(Exception):
    """Nothing was filled in; the sentence says why."""


def fill(db_url: str, *, users: int = 50, days: int = 90, seed: int = 1) -> dict[str, Any]:
    """Let users live through the days before now, in one transaction. Returns what came of it.

    Raises HistoryError when the database has this history already, or cannot take it.
    """
    if not 1 <= users <= 1000:
        raise HistoryError("--users must be from 1 to 1000.")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    with psycopg.connect(db_url) as connection:
        told = {"users": users, "days": days, "seed": seed, "password": hashed, "now": "now"}
        connection.execute("set local statement_timeout = 0")
        email = f"user%-{seed}@history.example"
        if connection.execute("select 1 from auth.users where email like %s limit 1", [email]).fetchone():
            raise HistoryError(
                f"This stack has the history with the seed {seed} already: take another --seed."
            )
        row = connection.execute("select pg_get_functiondef('credits.now()'::regprocedure)").fetchone()
        assert row
        for name, value in told.items():
            connection.execute("select set_config(%s, %s, true)", [f"history.{name}", str(value)])
        try:
            connection.execute(LIFE.read_bytes())
        except psycopg.errors.RaiseException as error:
            raise HistoryError(error.diag.message_primary or "It was refused.") from error
        connection.execute(row[0].encode())
        broken = connection.execute("select * from public.verify_ledger() limit 3").fetchall()
        if broken:
            raise HistoryError(f"verify_ledger found: {broken}")
        done = connection.execute(
            """
            select count(distinct a.id), count(*) filter (where t.kind in ('spend', 'capture')), count(*),
              (select count(*) from public.purchases as p inner join public.credit_accounts as b
                on p.account_id = b.id inner join auth.users as v on b.user_id = v.id
                where v.email like %(email)s)
            from public.credit_transactions as t
            inner join public.credit_accounts as a on t.account_id = a.id
            inner join auth.users as u on a.user_id = u.id
            where u.email like %(email)s
            """,
            {"email": email},
        ).fetchone()
    assert done
    return dict(zip(("users", "spends", "rows", "purchases"), done, strict=True))
