"""The statements on schema storage.

Most take a connection whose transaction scope() has given a role. Those of uploading and signing, which are
nearly all of the load, take the pool and send a whole transaction in one round trip.
"""

import json
import select
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncClientCursor, AsyncConnection, Rollback, errors, sql
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from .errors import access_denied

Row = dict[str, Any]
Claims = dict[str, Any]
Connection = AsyncConnection[Row]
Pool = AsyncConnectionPool[Connection]

# For what a request may not see but the server must know, such as a bucket's limits.
SERVICE: Claims = {"role": "service_role"}


async def check(pool: Pool, connection: Connection) -> None:
    """Raise if Postgres ended a pool's connection, without a round trip as long as it did not.

    A server that goes away leaves something to read on an idle connection, if only its end.
    """
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0):
        await pool.check()  # the others, too: the pool waits longer after each that it finds one by one
        await pool.check_connection(connection)


@asynccontextmanager
async def scope(pool: Pool, claims: Claims) -> AsyncIterator[Connection]:
    """A transaction as the role of a token, with its claims where auth.uid() looks, as PostgREST has it."""
    async with pool.connection() as connection, connection.transaction():
        await become(connection, claims)
        yield connection


BECOME = """
    select
        set_config('role', %s, true), set_config('request.jwt.claims', %s, true),
        set_config('storage.allow_delete_query', 'true', true)
"""


def _acting(claims: Claims) -> tuple[str, str]:
    """The values of BECOME."""
    return str(claims.get("role") or "anon"), json.dumps(claims)


async def become(connection: Connection, claims: Claims) -> None:
    """From now on the transaction acts for this token. Raises StorageError for a role it must not take."""
    role, described = _acting(claims)
    try:
        await connection.execute(BECOME, (role, described))
    except (errors.InsufficientPrivilege, errors.InvalidParameterValue) as error:
        raise access_denied(f'role "{role}" is not one of this project') from error


async def _at_once(pool: Pool, claims: Claims, *statements: tuple[str, Sequence[Any]]) -> list[list[Row]]:
    """One round trip with some statements, which Postgres takes for one transaction; the rows of each.

    One of them is BECOME with these claims. psycopg quotes the values into the text, because Postgres takes
    them apart from it for a single statement only. Raises StorageError for a role that it must not take.
    """
    query = ";".join(statement for statement, _ in statements)
    try:
        async with pool.connection() as connection:
            cursor = AsyncClientCursor(connection)
            await cursor.execute(query.encode(), [value for _, values in statements for value in values])
            return [await result.fetchall() async for result in cursor.results()]
    except (errors.InsufficientPrivilege, errors.InvalidParameterValue):
        async with scope(pool, claims):  # raises when it was the role that was refused
            raise


async def _one(connection: Connection, query: str, *values: Any) -> Row | None:
    return await (await connection.execute(query.encode(), values)).fetchone()


async def _all(connection: Connection, query: str, *values: Any) -> list[Row]:
    return await (await connection.execute(query.encode(), values)).fetchall()


def owner(claims: Claims) -> tuple[uuid.UUID | None, str | None]:
    """The columns owner and owner_id: the token's sub, as uuid where it is one."""
    subject = claims.get("sub")
    try:
        return uuid.UUID(str(subject)), subject
    except ValueError:
        return None, subject


# -- buckets -------------------------------------------------------------------------------------


BUCKETS = """
    select *
    from storage.buckets
    where strpos(lower(name), lower(%(search)s)) > 0
    order by {column} {order}, id
    limit %(limit)s offset %(offset)s
"""


async def buckets(
    connection: Connection, search: str, *, limit: int | None, offset: int, column: str, descending: bool
) -> list[Row]:
    """Those that the role sees, with the text in their names; no limit is all of them."""
    values = {"search": search, "limit": limit, "offset": offset}
    return await (await connection.execute(_sorted(BUCKETS, column, descending), values)).fetchall()


async def bucket(connection: Connection, bucket_id: str) -> Row | None:
    """One, if the role sees it."""
    return await _one(connection, "select * from storage.buckets where id = %s", bucket_id)


async def create_bucket(connection: Connection, values: Row) -> None:
    """Insert one; the names of the columns come from this package."""
    names = sql.SQL(", ").join(map(sql.Identifier, values))
    places = sql.SQL(", ").join(sql.Placeholder() * len(values))
    statement = sql.SQL("insert into storage.buckets ({}) values ({})").format(names, places)
    await connection.execute(statement, list(values.values()))


async def update_bucket(connection: Connection, bucket_id: str, changes: Row) -> bool:
    """Set columns. Returns whether the role may change the bucket."""
    pairs = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in changes]
    statement = sql.SQL("update storage.buckets set {} where id = %s").format(
        sql.SQL(", ").join([*pairs, sql.SQL("updated_at = now()")])
    )
    return (await connection.execute(statement, [*changes.values(), bucket_id])).rowcount == 1


async def delete_bucket(connection: Connection, bucket_id: str) -> bool:
    """Delete an empty one. Returns whether the role may. Raises ForeignKeyViolation when it is not empty."""
    return (await connection.execute("delete from storage.buckets where id = %s", (bucket_id,))).rowcount == 1


# -- objects -------------------------------------------------------------------------------------


async def find(connection: Connection, bucket_id: str, name: str) -> Row | None:
    """One, if the role sees it."""
    return await _one(
        connection, "select * from storage.objects where bucket_id = %s and name = %s", bucket_id, name
    )


async def visible(pool: Pool, claims: Claims, bucket_id: str, names: Sequence[str]) -> set[str]:
    """Those of the names that are there for the token."""
    there = "select name from storage.objects where bucket_id = %s and name = any(%s)"
    _, rows = await _at_once(pool, claims, (BECOME, _acting(claims)), (there, (bucket_id, list(names))))
    return {row["name"] for row in rows}


SAVE = """
    insert into storage.objects (bucket_id, name, version, owner, owner_id, metadata, user_metadata)
    values (%s, %s, %s, %s, %s, %s, %s)
"""
OVER = """
    on conflict (bucket_id, name) do update set
        version = excluded.version, owner = excluded.owner, owner_id = excluded.owner_id,
        metadata = excluded.metadata, user_metadata = excluded.user_metadata
"""


def _saving(
    claims: Claims, bucket_id: str, name: str, version: str,
    metadata: Row | None, user_metadata: Row | None, *, upsert: bool,
) -> tuple[str, tuple[Any, ...]]:  # fmt: skip
    return f"{SAVE} {OVER if upsert else ''} returning id::text", (
        bucket_id, name, version, *owner(claims),
        Jsonb(metadata) if metadata is not None else None,
        Jsonb(user_metadata) if user_metadata is not None else None,
    )  # fmt: skip


async def try_to_save(
    pool: Pool, claims: Claims, bucket_id: str, name: str, metadata: Row, user_metadata: Row, *, upsert: bool
) -> None:
    """Raises what save() would raise, and leaves nothing."""
    saving = _saving(claims, bucket_id, name, "1", metadata, user_metadata, upsert=upsert)
    async with scope(pool, claims) as connection:
        await _one(connection, saving[0], *saving[1])
        raise Rollback


async def save(
    pool: Pool, claims: Claims, bucket_id: str, name: str, version: str,
    metadata: Row | None, user_metadata: Row | None, *, upsert: bool,
) -> tuple[str, list[Row]]:  # fmt: skip
    """Insert a row, or with `upsert` put it over the one that is there. Needs what the policies ask for.

    Returns its id, and the version of the row that was there. Raises UniqueViolation when it is there and
    must not be, InsufficientPrivilege when the role may not.
    """
    *_, old, _, rows = await _at_once(
        pool, claims,
        # One change of a name at a time, also of one that is not there yet.
        ("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"{bucket_id}/{name}",)),
        # As the owner of the table: whoever may write need not see what is there.
        ("select version from storage.objects where bucket_id = %s and name = %s", (bucket_id, name)),
        (BECOME, _acting(claims)),
        _saving(claims, bucket_id, name, version, metadata, user_metadata, upsert=upsert),
    )  # fmt: skip
    return rows[0]["id"], old


async def delete(connection: Connection, bucket_id: str, names: Sequence[str]) -> list[Row]:
    """Delete those that the role may delete. Returns their rows."""
    return await _all(
        connection,
        "delete from storage.objects where bucket_id = %s and name = any(%s) returning *",
        bucket_id,
        list(names),
    )


async def delete_all(connection: Connection, bucket_id: str) -> list[Row]:
    """The same for a whole bucket."""
    return await _all(connection, "delete from storage.objects where bucket_id = %s returning *", bucket_id)


async def move(connection: Connection, bucket_id: str, name: str, to_bucket: str, to_name: str) -> Row | None:
    """Rename, if the role may. Returns the row, None when it may not or there is none."""
    return await _one(
        connection,
        "update storage.objects set bucket_id = %s, name = %s where bucket_id = %s and name = %s returning *",
        to_bucket, to_name, bucket_id, name,
    )  # fmt: skip


SORTABLE = ("name", "updated_at", "created_at", "last_accessed_at")

# One level below a folder, like storage.search of the real server: folders first, upper and lower case alike.
LIST = """
    with entries as (
        select o.*, o.path_tokens[%(level)s] as entry, cardinality(o.path_tokens) > %(level)s as in_folder
        from storage.objects as o
        where o.bucket_id = %(bucket)s and starts_with(lower(o.name), lower(%(beginning)s))
    ), listed as (
        select distinct
            entry as name, null::uuid as id, null::timestamptz as updated_at, null::timestamptz as created_at,
            null::timestamptz as last_accessed_at, null::jsonb as metadata
        from entries
        where in_folder
        union all
        select entry, id, updated_at, created_at, last_accessed_at, metadata
        from entries
        where not in_folder
    )
    select *
    from listed
    order by id is not null, {column} {order}, name {order}
    limit %(limit)s offset %(offset)s
"""


async def listing(
    connection: Connection, bucket_id: str, prefix: str, search: str, *, limit: int, offset: int,
    column: str, descending: bool,
) -> list[Row]:  # fmt: skip
    """What the role sees directly below a folder; `search` is how the names there begin."""
    folder = f"{prefix}/" if prefix and not prefix.endswith("/") else prefix
    values = {
        "level": folder.count("/") + 1, "bucket": bucket_id, "beginning": folder + search,
        "limit": limit, "offset": offset,
    }  # fmt: skip
    return await (await connection.execute(_sorted(LIST, column, descending), values)).fetchall()


def _sorted(query: str, column: str, descending: bool) -> sql.Composed:
    """A statement with its column and its order; the names come from this package."""
    return sql.SQL(query).format(
        column=sql.Identifier(column), order=sql.SQL("desc" if descending else "asc"),
        behind=sql.SQL("<" if descending else ">"),
    )  # fmt: skip


# What begins with a prefix, in pages that go on behind an entry, like storage.search_v2 of the real server.
# By folder, what has a slash behind the prefix counts as the folder that it lies in.
PAGE = """
    with objects as (
        select
            o.*,
            case
                when %(by_folder)s then strpos(substr(o.name, length(%(prefix)s::text) + 1), '/')
                else 0
            end as slash
        from storage.objects as o
        where o.bucket_id = %(bucket)s and starts_with(o.name, %(prefix)s)
    ), entries as (
        select
            left(name, length(%(prefix)s::text) + slash) collate "C" as name, null::uuid as id,
            min(created_at) as updated_at, min(created_at) as created_at,
            null::timestamptz as last_accessed_at, null::jsonb as metadata
        from objects
        where slash > 0
        group by 1
        union all
        select name collate "C", id, updated_at, created_at, last_accessed_at, metadata
        from objects
        where slash = 0
    )
    select *
    from entries
    where %(name)s::text is null or ({column}, name) {behind} (%(place)s, %(name)s::text)
    order by {column} {order}, name {order}
    limit %(limit)s
"""


async def page(
    connection: Connection, bucket_id: str, prefix: str, *, by_folder: bool, limit: int, column: str,
    descending: bool, after: tuple[str | None, str | None],
) -> list[Row]:  # fmt: skip
    """What the role sees; `after` is the place by the column, and the name, of the entry to go on behind."""
    values = {
        "bucket": bucket_id, "prefix": prefix, "by_folder": by_folder, "limit": limit,
        "place": after[0], "name": after[1],
    }  # fmt: skip
    return await (await connection.execute(_sorted(PAGE, column, descending), values)).fetchall()


async def versions(connection: Connection) -> set[str]:
    """Every version that a row names."""
    return {row["version"] for row in await _all(connection, "select version from storage.objects")}
