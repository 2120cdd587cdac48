"""Everything that the stand-in remembers, in one SQLite file.

A request is one transaction: after kill -9 it happened, with its events and their deliveries, or it did
not. (WAL without an fsync a commit: a machine that loses power may lose the last moments.)
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import JSON

SCHEMA = """
create table if not exists objects (
    seq integer primary key autoincrement, id text not null unique, object text not null,
    created integer not null, due integer, json text not null);
create index if not exists objects_by_kind on objects (object, created, seq);
create index if not exists objects_due on objects (due) where due is not null;
create table if not exists settings (name text primary key, json text not null);
create table if not exists idempotency (
    key text primary key, fingerprint text not null, created integer not null,
    status integer, body text, request_id text);
create table if not exists requests (
    seq integer primary key autoincrement, json text not null);
create table if not exists deliveries (
    id integer primary key autoincrement, event text not null, url text not null, state text not null,
    due real, attempts integer not null default 0);
create index if not exists deliveries_due on deliveries (state, due);
create index if not exists deliveries_of_event on deliveries (event);
create table if not exists attempts (
    seq integer primary key autoincrement, delivery integer not null, event text not null, at real not null,
    status integer, error text, body text);
"""


class Store:
    """The file. Used by one thread."""

    def __init__(self, path: Path | str) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.execute("pragma journal_mode = wal")
        self.db.execute("pragma synchronous = normal")
        self.db.executescript(SCHEMA)
        # What a killed process had begun never ended: the keys are free again, the deliveries due.
        self.db.execute("delete from idempotency where status is null")
        self.db.execute("update deliveries set state = 'pending' where state = 'sending'")

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self.db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self.db.execute("rollback")
            raise
        self.db.execute("commit")

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """The rows of a query."""
        return self.db.execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Carry out a statement."""
        return self.db.execute(sql, values)

    # -- objects -------------------------------------------------------------------------------

    def put(self, item: JSON, due: int | None = None) -> None:
        """Insert or replace an object. `due` is when the clock has to look at it again."""
        self.run(
            "insert into objects (id, object, created, due, json) values (?, ?, ?, ?, ?) "
            "on conflict (id) do update set object = excluded.object, due = excluded.due, "
            "json = excluded.json",
            item["id"], item["object"], item.get("created", 0), due, json.dumps(item),
        )  # fmt: skip

    def get(self, object_id: str) -> JSON | None:
        """An object by its id."""
        rows = self.rows("select json from objects where id = ?", object_id)
        return json.loads(rows[0]["json"]) if rows else None

    def find(self, kind: str, **fields: Any) -> list[JSON]:
        """The objects of a kind with these values at the top level, oldest first."""
        where = "".join(f" and json_extract(json, '$.{name}') is ?" for name in fields)
        sql = f"select json from objects where object = ?{where} order by seq"  # noqa: S608
        return [json.loads(row["json"]) for row in self.rows(sql, kind, *fields.values())]

    def next_due(self, until: int) -> tuple[JSON, int] | None:
        """The object that is due first, no later than `until`, and when."""
        rows = self.rows("select json, due from objects where due <= ? order by due, seq limit 1", until)
        return (json.loads(rows[0]["json"]), rows[0]["due"]) if rows else None

    # -- settings ------------------------------------------------------------------------------

    def setting(self, name: str, default: Any = None) -> Any:
        """A value that a control has set."""
        rows = self.rows("select json from settings where name = ?", name)
        return json.loads(rows[0]["json"]) if rows else default

    def set(self, name: str, value: Any) -> None:
        """Remember a value."""
        self.run(
            "insert into settings (name, json) values (?, ?) "
            "on conflict (name) do update set json = excluded.json",
            name, json.dumps(value),
        )  # fmt: skip
