"""Signing in by e-mail: codes and links, and what they confirm.

As in the real server a code is random digits, and of it only a hash with the address is kept, in the same
columns of auth.users. It is good once, for otp_expiry seconds.
"""

import base64
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.types.json import Jsonb

from . import mails, store
from .config import Config
from .errors import AuthError
from .store import Connection, Row

PKCE = "pkce_"
FLOW_SECONDS = 300  # from a link to the exchange of its code
LINK_INVALID = "Email link is invalid or has expired"
CODE_INVALID = "Token has expired or is invalid"

# Of each kind: the column of its hash and of when it was sent.
CONFIRMATION, RECOVERY = (
    ("confirmation_token", "confirmation_sent_at"),
    ("recovery_token", "recovery_sent_at"),
)
CURRENT, NEW = ((f"email_change_token_{which}", "email_change_sent_at") for which in ("current", "new"))
PLACES: dict[str, Sequence[tuple[tuple[str, str], str]]] = {
    "signup": ((CONFIRMATION, "signup"),),
    "invite": ((CONFIRMATION, "invite"),),
    "magiclink": ((RECOVERY, "magiclink"),),
    "recovery": ((RECOVERY, "recovery"),),
    "email": ((CONFIRMATION, "signup"), (RECOVERY, "magiclink")),
    "email_change": ((CURRENT, "email_change"), (NEW, "email_change")),
}
PROVIDER = {"provider": "email", "providers": ["email"]}
METHODS = {"signup": "email/signup", "invite": "invite", "magiclink": "magiclink", "recovery": "recovery",
           "email_change": "email_change"}  # fmt: skip


@dataclass(frozen=True)
class Flow:
    """How a link ends: `challenge` set means in a code for the app (PKCE), else in tokens."""

    redirect_to: str
    challenge: str | None = None
    method: str = "plain"


def hashed(address: str, code: str) -> str:
    """What is kept of a code."""
    return hashlib.sha224((address + code).encode()).hexdigest()


def new_code(config: Config) -> str:
    """Random digits."""
    return "".join(secrets.choice("0123456789") for _ in range(config.otp_length))


def require_pause(config: Config, sent_at: datetime | None) -> None:
    """Raises AuthError when the last message was sent a moment ago."""
    if sent_at is None:
        return
    left = config.mail_seconds - (datetime.now(UTC) - sent_at).total_seconds()
    if left > 0:
        message = f"For security purposes, you can only request this after {int(left) + 1} seconds."
        raise AuthError(429, "over_email_send_rate_limit", message)


async def send_code(
    connection: Connection, config: Config, base: str, user: Row, kind: str, flow: Flow
) -> None:
    """Send a code and a link to the user's address. In a transaction that has locked the user."""
    column, sent = PLACES[kind][0][0]
    require_pause(config, user[sent])
    code = new_code(config)
    token = (PKCE if flow.challenge else "") + hashed(user["email"], code)
    await store.update_user(connection, user["id"], {column: token, sent: datetime.now(UTC)})
    await _begin_flow(connection, user["id"], METHODS[kind], flow)
    await mails.send(
        connection, user["email"], kind, code, mails.action_link(base, kind, token, flow.redirect_to)
    )


async def send_email_change(
    connection: Connection, config: Config, base: str, user: Row, address: str, flow: Flow
) -> None:
    """Send codes to the new address and, unless config.toml says otherwise, to the one so far."""
    require_pause(config, user["email_change_sent_at"])
    changes: Row = {"email_change": address, "email_change_sent_at": datetime.now(UTC),
                    "email_change_confirm_status": 0, "email_change_token_current": ""}  # fmt: skip
    recipients = [(NEW[0], address)]
    if config.double_confirm_changes and user["email"]:
        recipients.append((CURRENT[0], user["email"]))
    for column, recipient in recipients:
        code = new_code(config)
        changes[column] = (PKCE if flow.challenge else "") + hashed(recipient, code)
        link = mails.action_link(base, "email_change", changes[column], flow.redirect_to)
        await mails.send(connection, recipient, "email_change", code, link)
    await store.update_user(connection, user["id"], changes)
    await _begin_flow(connection, user["id"], METHODS["email_change"], flow)


async def redeem(
    connection: Connection, config: Config, kind: str, token: str, address: str | None
) -> tuple[Row, str]:
    """The user whose code or link that is, and the kind it turned out to be. In a transaction.

    With an address the token is a code, else what is in a link. Raises AuthError.
    """
    refused = AuthError(403, "otp_expired", LINK_INVALID if address is None else CODE_INVALID)
    hashes = [token] if address is None else [hashed(address, token), PKCE + hashed(address, token)]
    for (column, sent), found_kind in PLACES[kind]:
        # Who comes second finds the hash gone when the lock is free.
        user = await store.locked_user(connection, column, hashes)
        if user is None:
            continue
        if user["banned_until"] and user["banned_until"] > datetime.now(UTC):
            raise AuthError(403, "user_banned", "User is banned")
        if user[sent] is None or datetime.now(UTC) > user[sent] + timedelta(seconds=config.otp_seconds):
            raise refused
        await store.update_user(connection, user["id"], {column: ""})
        return {**user, column: ""}, found_kind
    raise refused


async def accept(connection: Connection, config: Config, user: Row, kind: str) -> bool:
    """Do what a redeemed code is for. False when another one is needed as well: that of the other address."""
    if kind == "email_change":
        both = config.confirmations and config.double_confirm_changes and user["email"]
        if both and user["email_change_confirm_status"] == 0:
            await store.update_user(connection, user["id"], {"email_change_confirm_status": 1})
            return False
        await take_address(connection, user, user["email_change"])
    elif user["email_confirmed_at"] is None:
        await store.confirm_user(connection, user["id"])
    return True


async def take_address(connection: Connection, user: Row, address: str) -> None:
    """Give the user a confirmed address; who was anonymous is no longer."""
    changes: Row = {
        "email": address, "email_change": "", "email_change_token_new": "", "email_change_token_current": "",
        "email_change_confirm_status": 0, "is_anonymous": False,
        "raw_app_meta_data": Jsonb({**(user["raw_app_meta_data"] or {}), **PROVIDER}),
    }  # fmt: skip
    try:
        async with connection.transaction():
            await store.update_user(connection, user["id"], changes)
            await store.add_identity(connection, user["id"], address)
            await store.confirm_user(connection, user["id"])
    except psycopg.errors.UniqueViolation as error:
        if error.diag.schema_name != "auth":
            raise
        message = "A user with this email address has already been registered"
        raise AuthError(422, "email_exists", message) from error


# -- PKCE ----------------------------------------------------------------------------------------


async def _begin_flow(connection: Connection, user_id: uuid.UUID, method: str, flow: Flow) -> None:
    if flow.challenge:
        await connection.execute(
            "insert into auth.flow_state (id, user_id, code_challenge, code_challenge_method, "
            "authentication_method, provider_type, created_at, updated_at) "
            "values (%s, %s, %s, %s, %s, 'email', now(), now())",
            (uuid.uuid4(), user_id, flow.challenge, flow.method, method),
        )


async def issue_auth_code(connection: Connection, user_id: uuid.UUID, kind: str) -> str:
    """A code that the app exchanges for a session."""
    code = str(uuid.uuid4())
    found = await store.one(
        connection,
        "update auth.flow_state set auth_code = %s, auth_code_issued_at = now(), updated_at = now() "
        "where id = (select id from auth.flow_state where user_id = %s and authentication_method = %s "
        "order by created_at desc limit 1) returning id",
        code, user_id, METHODS[kind],
    )  # fmt: skip
    if found is None:
        raise AuthError(400, "flow_state_not_found", "No associated flow state found.")
    return code


async def exchange(connection: Connection, code: str, verifier: str) -> uuid.UUID:
    """The user of a code, which is spent. Raises AuthError. In a transaction."""
    flow = await store.one(connection, "select * from auth.flow_state where auth_code = %s for update", code)
    if flow is None or flow["user_id"] is None:
        raise AuthError(404, "flow_state_not_found", "invalid flow state, no valid flow state found")
    if datetime.now(UTC) > flow["auth_code_issued_at"] + timedelta(seconds=FLOW_SECONDS):
        raise AuthError(403, "flow_state_expired", "invalid flow state, flow state has expired")
    seen = verifier
    if flow["code_challenge_method"] == "s256":
        seen = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if not hmac.compare_digest(seen.encode(), flow["code_challenge"].encode()):
        message = "code challenge does not match previously saved code verifier"
        raise AuthError(400, "bad_code_verifier", message)
    await connection.execute("delete from auth.flow_state where id = %s", (flow["id"],))
    user_id: uuid.UUID = flow["user_id"]
    return user_id
