"""The stream of committed changes: a walsender's connection, with a slot that goes when the connection does.

psycopg opens the connection; libpq's copy functions read it. A slot outlives neither this process nor a hang
of it (wal_sender_timeout), so WAL does not pile up for a reader that is not there.
"""

import asyncio
import secrets
import struct
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import pq

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # of Postgres
STATUS_SECONDS = 10.0  # between confirmations; the server waits for 60 seconds
ACTIONS = {b"I": "INSERT", b"U": "UPDATE", b"D": "DELETE"}


@dataclass(frozen=True)
class Relation:
    """A table, as the stream names it."""

    oid: int
    schema: str
    table: str
    columns: tuple[str, ...]
    keys: frozenset[str]  # of its replica identity


@dataclass(frozen=True)
class Change:
    """A row that was written. Values are Postgres's text forms; one that did not change may be missing."""

    action: str
    relation: Relation
    committed: str  # ISO 8601, milliseconds
    new: dict[str, str | None]
    old: dict[str, str | None]


@dataclass
class Decoder:
    """Reads pgoutput, protocol version 1."""

    relations: dict[int, Relation] = field(default_factory=dict)
    committed: str = ""

    def change(self, message: bytes) -> Change | None:
        """What the message says of a row; None when it is about something else."""
        kind, body = message[:1], message[1:]
        if kind == b"B":
            moment = EPOCH + timedelta(microseconds=struct.unpack_from("!q", body, 8)[0])
            self.committed = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        elif kind == b"R":
            self._relation(body)
        elif kind in ACTIONS:
            return self._change(ACTIONS[kind], body)
        return None

    def _relation(self, body: bytes) -> None:
        (oid,) = struct.unpack_from("!I", body)
        schema, table, rest = body[4:].split(b"\0", 2)
        (count,) = struct.unpack_from("!h", rest, 1)
        rest = rest[3:]
        columns, keys = [], set()
        for _ in range(count):
            name, _, after = rest[1:].partition(b"\0")
            columns.append(name.decode())
            if rest[0] & 1:
                keys.add(name.decode())
            rest = after[8:]
        found = Relation(
            oid, (schema or b"pg_catalog").decode(), table.decode(), tuple(columns), frozenset(keys)
        )
        self.relations[oid] = found

    def _change(self, action: str, body: bytes) -> Change:
        relation = self.relations[struct.unpack_from("!I", body)[0]]
        rows: dict[bytes, dict[str, str | None]] = {}
        at = 4
        while at < len(body):
            row = body[at : at + 1]
            rows[row], at = self._row(relation, body, at + 1)
        new, old = rows.get(b"N", {}), rows.get(b"O", {})
        if not old:
            # The key: as it was, if it changed, else as it is.
            source = rows.get(b"K", new if action == "UPDATE" else {})
            old = {name: value for name, value in source.items() if name in relation.keys}
        elif action == "UPDATE":
            # What is too long to be written again with an unchanged value is in the old row.
            new = {**{name: value for name, value in old.items() if name not in new}, **new}
        return Change(action, relation, self.committed, new, old)

    @staticmethod
    def _row(relation: Relation, body: bytes, at: int) -> tuple[dict[str, str | None], int]:
        (count,) = struct.unpack_from("!h", body, at)
        at += 2
        values: dict[str, str | None] = {}
        for name in relation.columns[:count]:
            kind = body[at : at + 1]
            at += 1
            if kind == b"n":
                values[name] = None
            elif kind == b"t":
                (length,) = struct.unpack_from("!I", body, at)
                values[name] = body[at + 4 : at + 4 + length].decode()
                at += 4 + length
        return values, at


class Stream:
    """An open stream. Made by open_stream()."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        self._connection = connection
        self._decoder = Decoder()
        self._confirmed = 0

    async def close(self) -> None:
        """End it; the slot is gone with it."""
        await self._connection.close()

    async def changes(self) -> AsyncIterator[Change]:
        """Each change, as soon as it is committed. The next is read when this one is done with."""
        while True:
            message = await self._next()
            if message[:1] == b"k":
                end, _, wanted = struct.unpack_from("!QQB", message, 1)
                self._confirmed = max(self._confirmed, end)
                if wanted:
                    self._confirm()
            elif message[:1] == b"w":
                change = self._decoder.change(message[25:])
                if change is not None:
                    yield change
                elif message[25:26] == b"C":
                    (end,) = struct.unpack_from("!Q", message, 25 + 1 + 1 + 8)
                    self._confirmed = max(self._confirmed, end)

    async def _next(self) -> bytes:
        """The next message of the copy. Raises psycopg.OperationalError when there is none any more."""
        pgconn = self._connection.pgconn
        while True:
            length, data = pgconn.get_copy_data(1)
            if length > 0:
                return bytes(data)
            if length < 0:
                raise psycopg.OperationalError("the stream of changes has ended")
            try:
                await asyncio.wait_for(readable(pgconn.socket), STATUS_SECONDS)
            except TimeoutError:
                self._confirm()
            pgconn.consume_input()

    def _confirm(self) -> None:
        """Tell the server up to where its WAL is no longer needed."""
        now = int((time.time() - EPOCH.timestamp()) * 1_000_000)
        status = struct.pack("!cQQQqB", b"r", self._confirmed, self._confirmed, self._confirmed, now, 0)
        self._connection.pgconn.put_copy_data(status)
        self._connection.pgconn.flush()


async def readable(socket: int) -> None:
    """Wait until there is something to read."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        loop.remove_reader(socket)
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(socket, wake)
    try:
        await ready
    finally:
        loop.remove_reader(socket)


async def open_stream(db_url: str, publications: Sequence[str]) -> Stream:
    """A stream of what the publications publish from now on. Raises psycopg.Error.

    Postgres waits with it for transactions that are writing already.
    """
    connection = await psycopg.AsyncConnection.connect(
        db_url, autocommit=True, connect_timeout=5, replication="database"
    )
    try:
        slot = f"local_realtime_{secrets.token_hex(8)}"
        await connection.execute(
            f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'nothing')".encode()
        )
        options = f"proto_version '1', publication_names '{','.join(publications)}'"
        pgconn = connection.pgconn
        pgconn.send_query(f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options})".encode())
        pgconn.flush()
        while pgconn.is_busy():
            await readable(pgconn.socket)
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            reason = result.error_message.decode() if result else "no answer"
            raise psycopg.OperationalError(f"the stream of changes did not begin: {reason}")
    except BaseException:
        await connection.close()
        raise
    return Stream(connection)
