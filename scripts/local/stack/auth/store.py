"""The statements on schema auth. Every function takes an open connection; callers set transactions."""

import hashlib
import secrets
import string
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.types.json import Jsonb

Row = dict[str, Any]
Connection = AsyncConnection[Row]

ALPHABET = string.ascii_lowercase + string.digits


def refresh_token() -> str:
    """Twelve characters, as Supabase Auth's are."""
    return "".join(secrets.choice(ALPHABET) for _ in range(12))


async def one(connection: Connection, query: str, *values: Any) -> Row | None:
    """The first row of an answer."""
    return await (await connection.execute(query.encode(), values)).fetchone()


async def user_by_email(connection: Connection, email: str) -> Row | None:
    """The user with that address (lower case)."""
    return await one(connection, "select * from auth.users where email = %s and is_sso_user = false", email)


async def user_by_id(connection: Connection, user_id: uuid.UUID) -> Row | None:
    """The user with that id."""
    return await one(connection, "select * from auth.users where id = %s", user_id)


async def locked_user(connection: Connection, column: str, tokens: list[str]) -> Row | None:
    """The user one of whose tokens that is, locked until the transaction ends. No request names columns."""
    query = sql.SQL("select * from auth.users where {} = any (%s) and is_sso_user = false for update")
    return await (await connection.execute(query.format(sql.Identifier(column)), (tokens,))).fetchone()


async def lock_user(connection: Connection, user_id: uuid.UUID) -> Row | None:
    """The user as it is now, locked until the transaction ends."""
    return await one(connection, "select * from auth.users where id = %s for update", user_id)


async def create_user(
    connection: Connection, email: str | None, password_hash: str | None, user_metadata: Row,
    app_metadata: Row, *, confirm: bool, role: str = "authenticated", user_id: uuid.UUID | None = None,
) -> Row:  # fmt: skip
    """Insert a user with its identity, then confirm it, in the order in which Supabase Auth does it:
    a trigger on insert sees email_confirmed_at null. Without an address it is an anonymous user.
    """
    user_id = user_id or uuid.uuid4()
    await connection.execute(
        """
        insert into auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data,
            raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token,
            email_change_token_new, email_change, is_anonymous)
        values ('00000000-0000-0000-0000-000000000000', %s, 'authenticated', %s, %s, %s, %s, %s, now(), now(),
            '', '', '', '', %s)
        """,
        (user_id, role, email, password_hash, Jsonb(app_metadata), Jsonb(user_metadata), email is None),
    )
    if email is not None:
        await add_identity(connection, user_id, email)
    if confirm:
        await confirm_user(connection, user_id)
    user = await user_by_id(connection, user_id)
    assert user is not None
    return user


async def add_identity(connection: Connection, user_id: uuid.UUID, email: str) -> None:
    """The identity of an address; the user's only one of that kind."""
    identity = {"sub": str(user_id), "email": email, "email_verified": False, "phone_verified": False}
    await connection.execute(
        """
        insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at,
            created_at, updated_at)
        values (%s, %s, %s, 'email', now(), now(), now())
        on conflict (provider_id, provider) do update
        set identity_data = identities.identity_data || excluded.identity_data, updated_at = now()
        """,
        (str(user_id), user_id, Jsonb(identity)),
    )


async def confirm_user(connection: Connection, user_id: uuid.UUID) -> None:
    """The user has shown that the address is theirs."""
    await connection.execute(
        """
        update auth.users
        set email_confirmed_at = coalesce(email_confirmed_at, now()), confirmation_token = '',
            updated_at = now(),
            raw_user_meta_data = coalesce(raw_user_meta_data, '{}') || '{"email_verified": true}'
        where id = %s
        """,
        (user_id,),
    )


async def update_user(connection: Connection, user_id: uuid.UUID, changes: Mapping[str, Any]) -> None:
    """Set columns; the names come from this package, never from a request."""
    if changes:
        assignments = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in changes)
        statement = sql.SQL("update auth.users set {}, updated_at = now() where id = %s").format(assignments)
        await connection.execute(statement, (*changes.values(), user_id))
    if "email" in changes:
        await connection.execute(
            """
            update auth.identities
            set identity_data = identity_data || jsonb_build_object('email', %s::text), updated_at = now()
            where user_id = %s and provider = 'email'
            """,
            (changes["email"], user_id),
        )


async def identities(connection: Connection, user_ids: list[uuid.UUID]) -> dict[uuid.UUID, list[Row]]:
    """The identities of several users, by user."""
    found: dict[uuid.UUID, list[Row]] = {user_id: [] for user_id in user_ids}
    rows = await connection.execute(
        "select * from auth.identities where user_id = any(%s) order by created_at", (user_ids,)
    )
    for row in await rows.fetchall():
        found[row["user_id"]].append(row)
    return found


async def page_of_users(connection: Connection, offset: int, limit: int) -> tuple[list[Row], int]:
    """Newest users first, and how many there are altogether."""
    rows = await connection.execute(
        "select * from auth.users order by created_at desc, id limit %s offset %s", (limit, offset)
    )
    total = await one(connection, "select count(*) as total from auth.users")
    return await rows.fetchall(), total["total"] if total else 0


async def delete_user(connection: Connection, user_id: uuid.UUID, soft: bool) -> None:
    """Delete the user; softly means that the row stays, with everything personal taken out."""
    if not soft:
        await connection.execute("delete from auth.users where id = %s", (user_id,))
        return
    # One way, so that the address is not kept but the same id stays recognisable.
    digest = hashlib.sha256(user_id.bytes).hexdigest()
    await update_user(
        connection,
        user_id,
        {"email": digest, "phone": None, "encrypted_password": "", "raw_user_meta_data": Jsonb({}),
         "raw_app_meta_data": Jsonb({}), "deleted_at": datetime.now(UTC)},
    )  # fmt: skip
    await connection.execute("delete from auth.identities where user_id = %s", (user_id,))
    await end_sessions(connection, user_id)


# -- sessions ------------------------------------------------------------------------------------


async def open_session(connection: Connection, user_id: uuid.UUID, user_agent: str) -> tuple[uuid.UUID, str]:
    """A new session with its first refresh token."""
    session_id, token = uuid.uuid4(), refresh_token()
    await connection.execute(
        """
        insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent)
        values (%s, %s, now(), now(), 'aal1', %s)
        """,
        (session_id, user_id, user_agent),
    )
    await _insert_token(connection, user_id, session_id, token, None)
    await connection.execute(
        "update auth.users set last_sign_in_at = now(), updated_at = now() where id = %s", (user_id,)
    )
    return session_id, token


async def _insert_token(
    connection: Connection, user_id: uuid.UUID, session_id: uuid.UUID, token: str, parent: str | None
) -> None:
    await connection.execute(
        """
        insert into auth.refresh_tokens (instance_id, token, user_id, revoked, created_at, updated_at, parent,
            session_id)
        values ('00000000-0000-0000-0000-000000000000', %s, %s, false, now(), now(), %s, %s)
        """,
        (token, str(user_id), parent, session_id),
    )


async def session_of(connection: Connection, session_id: uuid.UUID, user_id: uuid.UUID) -> Row | None:
    """The session with that id, when it is the user's."""
    return await one(
        connection, "select * from auth.sessions where id = %s and user_id = %s", session_id, user_id
    )


async def locked_token(connection: Connection, token: str) -> Row | None:
    """A refresh token and its session, locked until the transaction ends: one refresh at a time."""
    found = await one(connection, "select session_id from auth.refresh_tokens where token = %s", token)
    if found is None or found["session_id"] is None:
        return None
    await connection.execute("select from auth.sessions where id = %s for update", (found["session_id"],))
    return await one(connection, "select * from auth.refresh_tokens where token = %s for update", token)


async def active_token(connection: Connection, session_id: uuid.UUID) -> Row | None:
    """The newest refresh token of a session that is not revoked."""
    query = "select * from auth.refresh_tokens where session_id = %s and not revoked order by id desc limit 1"
    return await one(connection, query, session_id)


async def rotate(connection: Connection, token: Row) -> str:
    """Revoke a refresh token and put a new one in its place."""
    fresh = refresh_token()
    await connection.execute(
        "update auth.refresh_tokens set revoked = true, updated_at = now() where id = %s", (token["id"],)
    )
    await _insert_token(connection, uuid.UUID(token["user_id"]), token["session_id"], fresh, token["token"])
    await connection.execute(
        "update auth.sessions set refreshed_at = now() at time zone 'utc', updated_at = now() where id = %s",
        (token["session_id"],),
    )
    return fresh


async def revoke_session_tokens(connection: Connection, session_id: uuid.UUID) -> None:
    """After a stolen token was used: none of the session's refresh tokens is good any more."""
    await connection.execute(
        "update auth.refresh_tokens set revoked = true, updated_at = now() where session_id = %s",
        (session_id,),
    )


async def end_sessions(
    connection: Connection,
    user_id: uuid.UUID,
    *,
    only: uuid.UUID | None = None,
    keep: uuid.UUID | None = None,
) -> None:
    """End the user's sessions: all, only one, or all but one. Their refresh tokens go with them."""
    await connection.execute(
        """
        delete from auth.sessions
        where user_id = %s and (%s::uuid is null or id = %s) and (%s::uuid is null or id <> %s)
        """,
        (user_id, only, only, keep, keep),
    )


def reuse_ends(token: Row, interval: timedelta) -> datetime:
    """Until when a token that was just revoked may be used again, by a client in a race with itself."""
    updated: datetime = token["updated_at"]
    return updated + interval
