"""What Realtime asks the database. The rules are the SQL functions in sql/50_realtime.sql."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from .filters import Wanted
from .wal import Change

Row = dict[str, Any]
Claims = dict[str, Any]
PUBLICATIONS = ("supabase_realtime", "supabase_realtime_messages_publication")


@dataclass(frozen=True)
class Rights:
    """What a token may do on a private topic; on a public one everybody may everything."""

    read_broadcast: bool = True
    write_broadcast: bool = True
    read_presence: bool = True
    write_presence: bool = True


@dataclass(frozen=True)
class Seen:
    """One form of a change, and who gets it: the numbers of subscribers. `data` is JSON text."""

    numbers: list[int]
    data: str


# By table, by column: the values that the subscription's simple filters want, as rows write them.
Simple = dict[int, dict[str, frozenset[str | None]]]


class Store:
    """A few connections as supabase_realtime_admin."""

    def __init__(self, db_url: str) -> None:
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]] = AsyncConnectionPool(
            db_url,
            min_size=0,
            max_size=4,
            timeout=10,
            kwargs={"autocommit": True, "row_factory": dict_row},
            check=AsyncConnectionPool.check_connection,  # Postgres may have been restarted since
            open=False,
        )

    async def open(self) -> None:
        """Make ready; the first connection is made when it is needed."""
        await self._pool.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    async def _rows(self, query: str, *values: object) -> list[Row]:
        async with self._pool.connection() as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()

    async def publications(self) -> list[str]:
        """Those of PUBLICATIONS that are there. What was sent long ago goes, as hosted."""
        await self._rows(
            "with gone as (delete from realtime.messages where inserted_at < now() - interval '3 days' "
            "returning id) select count(*) from gone"
        )
        rows = await self._rows(
            "select pubname from pg_publication where pubname = any (%s)", list(PUBLICATIONS)
        )
        return [row["pubname"] for row in rows]

    async def subscribe(self, role: str, wanted: Wanted) -> Simple:
        """The published tables that are asked for. Raises psycopg.Error when a filter is wrong."""
        rows = await self._rows(
            "select * from realtime.local_subscribe(%s, %s, %s, %s, %s)",
            role, wanted.schema, wanted.table, Jsonb(wanted.filters), list(wanted.select or ()),
        )  # fmt: skip
        return {
            row["entity"]: {column: frozenset(values) for column, values in row["wanted"].items()}
            for row in rows
        }

    async def seen(self, change: Change, subscribers: Iterable[Row]) -> list[Seen]:
        """What the subscribers see of a change, one entry for each form of it."""
        rows = await self._rows(
            "select numbers, columns::text, record::text, old_record::text, errors "
            "from realtime.local_change(%s, %s, %s, %s, %s, %s, %s)",
            change.relation.oid, change.action, list(change.new), list(change.new.values()),
            list(change.old), list(change.old.values()), Jsonb(list(subscribers)),
        )  # fmt: skip
        return [Seen(row["numbers"], _data(change, row)) for row in rows]

    async def rights(self, topic: str, claims: Claims, headers: dict[str, str]) -> Rights:
        """What the policies on realtime.messages allow. Raises psycopg.Error when one of them fails."""
        rows = await self._rows(
            "select * from realtime.local_rights(%s, %s, %s)", topic, Jsonb(claims), Jsonb(headers)
        )
        by = {row["extension"]: row for row in rows}
        return Rights(
            by["broadcast"]["reads"],
            by["broadcast"]["writes"],
            by["presence"]["reads"],
            by["presence"]["writes"],
        )


def _data(change: Change, row: Row) -> str:
    """The change as clients get it. The parts are JSON already: numbers keep their digits."""
    head = json.dumps(
        {
            "schema": change.relation.schema,
            "table": change.relation.table,
            "type": change.action,
            "commit_timestamp": change.committed,
            "errors": row["errors"] or None,
        }
    )
    parts = [head[:-1], f'"columns":{row["columns"]}']
    if change.action != "DELETE":
        parts.append(f'"record":{row["record"]}')
    if change.action != "INSERT":
        parts.append(f'"old_record":{row["old_record"]}')
    return ",".join(parts) + "}"
