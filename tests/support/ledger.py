"""Calls to the ledger as PostgREST makes them, but on a connection of our own: for databases that PostgREST
does not
serve, because the test moves their clock or tampers with them.
"""

import contextlib
import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.support import clock

SETTLED = """
begin;
select credits.lock_account({account});
select jsonb_build_object(
  'lots', (
    select coalesce(jsonb_agg(jsonb_build_array(
      g.id, g.amount, g.remaining, g.source, g.expires_at, g.priority, g.transaction_id
    ) order by g.id), '[]')
    from credits.credit_grants as g where g.account_id = {account}
  ),
  'allocations', (
    select coalesce(jsonb_agg(jsonb_build_array(
      case when t.kind = 'expiry' then 0 else t.id end, x.grant_id, x.amount
    )), '[]')
    from credits.credit_allocations as x
    join public.credit_transactions as t on t.account_id = x.account_id and t.id = x.transaction_id
    where t.account_id = {account}
  ),
  'holds', (
    select coalesce(jsonb_agg(jsonb_build_array(h.id, h.status)), '[]')
    from public.credit_holds as h where h.account_id = {account}
  ),
  'account', (
    select jsonb_build_array(a.balance, a.held) from public.credit_accounts as a where a.id = {account}
  )
);
rollback;
"""


class Refused(Exception):  # noqa: N818 (what happened, not a mistake)
    """An error that the database raised, as PostgREST would pass it on. `details` is parsed when it is
    JSON.
    """

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(error.sqlstate, error.diag.message_primary, error.diag.message_detail)
        self.code = error.sqlstate or ""
        self.message = error.diag.message_primary or ""
        self.hint = error.diag.message_hint or ""
        self.constraint = error.diag.constraint_name
        detail = error.diag.message_detail or ""
        self.details: Any = json.loads(detail) if detail.startswith("{") else detail


@dataclass
class Ledger:
    """One connection to a database with the ledger in it, and a clock that stands still until it is moved."""

    connection: "psycopg.Connection[Any]"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    # -- the owner's side ----------------------------------------------------------------------

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What a query gives, as the role of the connection."""
        try:
            cursor = self.connection.execute(query, values or None)
        except psycopg.Error as error:
            raise Refused(error) from None
        if cursor.description is None:
            return []
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def value(self, query: str, *values: Any) -> Any:
        """The one value that a query gives; None for no row."""
        rows = self.rows(query, *values)
        return next(iter(rows[0].values())) if rows else None

    def now(self) -> datetime:
        """What the ledger takes for the time."""
        moment: datetime = self.value("select credits.now()")
        return moment

    def pass_time(self, by: timedelta) -> datetime:
        """Move the clock on. Returns the new time."""
        return clock.pass_time(self.connection, by)

    def set_time(self, at: datetime) -> None:
        """Let the clock stand at that moment, be it earlier or later."""
        clock.set_time(self.connection, at)

    def sign_up(self, email: str | None = None, *, confirmed: bool = True) -> str:
        """A new user, as the auth server makes one; the trigger opens the account. Returns the user's id."""
        made = str(uuid.uuid4())
        self.rows(
            "insert into auth.users (id, email, email_confirmed_at) "
            "values (%s, %s, case when %s then now() end)",
            made, email or f"{made}@example.com", confirmed,
        )  # fmt: skip
        return made

    def account(self, user: str) -> dict[str, Any]:
        """The row of credit_accounts."""
        return self.rows("select * from public.credit_accounts where user_id = %s", user)[0]

    def settle(self, user: str) -> None:
        """Settle the user's account."""
        self.rows("select credits.lock_account(id) from public.credit_accounts where user_id = %s", user)

    def lots(self, user: str) -> list[dict[str, Any]]:
        """The account's lots, oldest first, as of the last settlement."""
        return self.rows(
            "select g.* from credits.credit_grants g join public.credit_accounts a on a.id = g.account_id "
            "where a.user_id = %s order by g.id",
            user,
        )

    def what_if_settled(self, account_id: str) -> dict[str, Any]:
        """What a settlement of the account would leave; it is undone again.

        lots: [id, amount, remaining, source, expires_at, priority, transaction]; allocations:
        [transaction, or 0 for an
        expiry, lot, amount]; holds: [id, status]; account: [balance, held].
        """
        cursor = self.connection.execute(sql.SQL(SETTLED).format(account=account_id))
        cursor.nextset()
        cursor.nextset()
        row = cursor.fetchone()
        assert row
        seen: dict[str, Any] = row[0]
        return seen

    def broken(self, user: str | None = None) -> list[str]:
        """The invariants that verify_ledger finds broken."""
        found = self.rows("select invariant from public.verify_ledger(%s::uuid)", user)
        return sorted({row["invariant"] for row in found})

    # -- the API's side ------------------------------------------------------------------------

    def call(self, role: str, user: str | None, function: str, **arguments: Any) -> Any:
        """One RPC in a transaction of its own, as PostgREST does it. Returns JSON; raises Refused."""
        claims = {"role": role, "exp": 4102444800 * 2}
        if user is not None:
            claims |= {"sub": user, "aud": "authenticated"}
        query = sql.SQL("select to_jsonb(called) from {} ({}) as called").format(
            sql.Identifier("public", function),
            sql.SQL(", ").join(
                sql.SQL("{} => {}").format(
                    sql.Identifier(name), Jsonb(value) if isinstance(value, dict | list) else value
                )
                for name, value in arguments.items()
            ),
        )
        return self.ask(role, json.dumps(claims), query)

    def ask(self, role: str, claims: str, query: sql.Composable) -> Any:
        """One value, asked for in a role and with a token's claims."""
        # One message, so that thousands of calls take seconds.
        batch = sql.SQL(
            "begin; select set_config('role', {}, true), set_config('request.jwt.claims', {}, true); "
            "{}; commit"
        ).format(role, claims, query)
        try:
            cursor = self.connection.execute(batch)
        except psycopg.Error as error:
            with contextlib.suppress(psycopg.OperationalError):  # the server may be gone
                self.connection.execute("rollback")
            raise Refused(error) from None
        cursor.nextset()
        cursor.nextset()
        row = cursor.fetchone()
        return row[0] if row else None

    def as_user(self, user: str, function: str, **arguments: Any) -> Any:
        """An RPC with the user's token."""
        return self.call("authenticated", user, function, **arguments)

    def read_as_user(self, user: str, query: str) -> Any:
        """One value that a query gives the user."""
        claims = {"role": "authenticated", "sub": user, "aud": "authenticated", "exp": 4102444800 * 2}
        return self.ask("authenticated", json.dumps(claims), sql.SQL(query))

    def as_service(self, function: str, **arguments: Any) -> Any:
        """An RPC with the secret key."""
        return self.call("service_role", None, function, **arguments)

    def claw_back(
        self, user: str, amount: int, grant: int | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """credits.claw_back, which has no RPC: the owner's code calls it."""
        row: dict[str, Any] = self.value(
            "select to_jsonb(c) from public.credit_accounts a, "
            "credits.claw_back(a.id, %s, %s, %s) c where a.user_id = %s",
            amount, grant, key, user,
        )  # fmt: skip
        return row


def small_batches(ledger: Ledger, batch: int, most: int = 50_000) -> None:
    """Settle so many rows at a time; with so many unsettled a spend settles some."""
    for function, value in (("settlement_batch", batch), ("max_unsettled", most)):
        ledger.rows(
            f"create or replace function credits.{function}() returns integer language sql immutable "
            f"as 'select {value}'"
        )


def buyer(ledger: Ledger, size: int) -> str:
    """A user with that many credits."""
    user = ledger.sign_up()
    ledger.as_service("grant_credits", user_id=user, amount=size, source="purchase")
    return user


def lot(ledger: Ledger, user: str, size: int, life: timedelta, priority: int = 50) -> int:
    """A lot that expires. Returns its ledger row's id."""
    row = ledger.as_service(
        "grant_credits",
        user_id=user,
        amount=size,
        source="purchase",
        expires_at=ledger.now() + life,
        priority=priority,
    )
    made: int = row["id"]
    return made
