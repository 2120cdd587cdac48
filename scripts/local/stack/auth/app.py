"""The endpoints below /auth/v1."""

import asyncio
import functools
import logging
import os
import secrets
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import bcrypt
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..keys import Keys
from ..rate import Rates
from . import codes, inputs, store
from .config import Config
from .errors import AuthError, invalid_credentials
from .sign_in import TOO_OFTEN, SignIn, client
from .store import Connection, Row
from .tokens import LIFETIME, Tokens

log = logging.getLogger("auth")

# How long a refresh token may be used again after its rotation: two tabs may refresh at once.
REUSE_INTERVAL = timedelta(seconds=10)
# As Supabase Auth. Tests, which sign up hundreds of users, take the least, 4.
BCRYPT_COST = int(os.environ.get("LOCAL_AUTH_BCRYPT_COST", "10"))
TIMES = (
    "email_confirmed_at", "confirmed_at", "last_sign_in_at", "banned_until", "deleted_at", "invited_at",
    "confirmation_sent_at", "recovery_sent_at", "email_change_sent_at",
)  # fmt: skip
Endpoint = Callable[[Request], Awaitable[Response]]


def instant(value: datetime | None) -> str | None:
    """A time as Supabase Auth writes it: RFC 3339 in UTC."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else None


def identity_json(row: Row) -> Row:
    """One entry of a user's `identities`."""
    return {
        "identity_id": str(row["id"]),
        "id": row["provider_id"],
        "user_id": str(row["user_id"]),
        "identity_data": row["identity_data"],
        "provider": row["provider"],
        "last_sign_in_at": instant(row["last_sign_in_at"]),
        "created_at": instant(row["created_at"]),
        "updated_at": instant(row["updated_at"]),
        "email": row["email"],
    }


def user_json(row: Row, identities: list[Row]) -> Row:
    """A user as clients see it; times that are not set are left out."""
    shown: Row = {
        "id": str(row["id"]),
        "aud": row["aud"],
        "role": row["role"],
        "email": row["email"] or "",
        "phone": row["phone"] or "",
        "app_metadata": row["raw_app_meta_data"] or {},
        "user_metadata": row["raw_user_meta_data"] or {},
        "identities": [identity_json(identity) for identity in identities],
        "created_at": instant(row["created_at"]),
        "updated_at": instant(row["updated_at"]),
        "is_anonymous": row["is_anonymous"],
    }
    for name in TIMES:
        if row[name]:
            shown[name] = instant(row[name])
    if row["email_change"]:
        shown["new_email"] = row["email_change"]
    return shown


def banned(user: Row) -> bool:
    """Whether the user is banned now."""
    return bool(user["banned_until"] and user["banned_until"] > datetime.now(UTC))


async def hash_password(password: str) -> str:
    """bcrypt, in a thread: it takes tens of milliseconds."""
    salt = bcrypt.gensalt(BCRYPT_COST)
    return (await asyncio.to_thread(bcrypt.hashpw, password.encode(), salt)).decode()


async def same_password(password: str, stored: str | None) -> bool:
    """Whether the password is the one that was hashed."""
    if not stored or len(password.encode()) > inputs.MAX_PASSWORD:
        return False
    try:
        return await asyncio.to_thread(bcrypt.checkpw, password.encode(), stored.encode())
    except ValueError:
        return False  # not a bcrypt hash


def merged(old: Row | None, new: Row) -> Jsonb:
    """Metadata after an update: null removes a key."""
    both = {**(old or {}), **new}
    return Jsonb({key: value for key, value in both.items() if value is not None})


class Auth:
    """The app for one stack, as `app`; open() before the first request, close() at the end."""

    def __init__(self, keys: Keys, db_url: str, issuer: str, config: Config | None = None) -> None:
        self.keys, self.config = keys, config or Config()
        self.tokens = Tokens(keys, issuer)
        self.pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            db_url,
            min_size=1,
            max_size=8,
            timeout=10,
            kwargs={"autocommit": True, "row_factory": dict_row},
            check=AsyncConnectionPool.check_connection,  # Postgres may have been restarted since
            open=False,
        )
        self.sign_in = SignIn(self)
        self._anonymous = Rates(self.config.anonymous_an_hour, 3600.0)
        routes: list[tuple[str, str, Endpoint]] = [
            *self.sign_in.routes(),
            ("GET", "/health", self.health),
            ("GET", "/settings", self.settings),
            ("GET", "/.well-known/jwks.json", self.jwks),
            ("POST", "/signup", self.sign_up),
            ("POST", "/token", self.token),
            ("GET", "/user", self.get_user),
            ("PUT", "/user", self.put_user),
            ("POST", "/logout", self.logout),
            ("POST", "/admin/users", self.admin_create),
            ("GET", "/admin/users", self.admin_list),
            ("GET", "/admin/users/{user_id}", self.admin_get),
            ("PUT", "/admin/users/{user_id}", self.admin_update),
            ("DELETE", "/admin/users/{user_id}", self.admin_delete),
        ]
        mail = [Route(path, guarded(self.sign_in.mail), methods=["GET"]) for path in ("/mail", "/mail.json")]
        self.mail = Starlette(routes=mail)
        self.app = Starlette(
            routes=[Route(path, guarded(endpoint), methods=[method]) for method, path, endpoint in routes],
            exception_handlers={HTTPException: absent},
        )

    async def open(self) -> None:
        """Connect."""
        await self.pool.open()

    async def close(self) -> None:
        """Disconnect."""
        await self.pool.close()

    # -- about the server ------------------------------------------------------------------------

    async def health(self, _request: Request) -> Response:
        """Says what this is."""
        about = "a stand-in for Supabase Auth, for development only"
        return JSONResponse({"version": "local", "name": "scripts.local.stack.auth", "description": about})

    async def settings(self, _request: Request) -> Response:
        """What clients may ask before they show a sign-in form."""
        return JSONResponse(
            {
                "external": {"email": True, "phone": False, "anonymous_users": self.config.anonymous},
                "disable_signup": not self.config.signup,
                "mailer_autoconfirm": not self.config.confirmations,
                "phone_autoconfirm": False,
                "sms_provider": "",
                "saml_enabled": False,
            }
        )

    async def jwks(self, _request: Request) -> Response:
        """The public keys that tokens may be signed with."""
        return JSONResponse(self.keys.public_jwks())

    # -- signing up and in -----------------------------------------------------------------------

    async def sign_up(self, request: Request) -> Response:
        """{email, password, data?} -> a session; 422 user_already_exists.

        Where addresses have to be confirmed, the user, to whom a code is sent. Without an address an
        anonymous user, where that is allowed.
        """
        params = await inputs.body(request)
        email, data = inputs.email(params), inputs.mapping(params, "data") or {}
        if email is None:
            if inputs.text(params, "phone"):
                raise AuthError(400, "phone_provider_disabled", "Phone signups are disabled")
            return await self._sign_up_anonymously(request, data)
        password = inputs.password(params)
        if password is None:
            raise AuthError(400, "validation_failed", "Signup requires a valid password")
        flow = self.sign_in.flow(request, params)
        async with self.pool.connection() as connection:
            user = await store.user_by_email(connection, email)
            known = user is not None and (user["email_confirmed_at"] or not self.config.confirmations)
            if known and not self.config.confirmations:
                raise registered()
            if known:
                return JSONResponse(stranger(email, data))
            user = user or await self.new_user(connection, email, password, data)
            if not self.config.confirmations:
                return await self.new_session(connection, request, user)
            await self.sign_in.send(connection, user["id"], "signup", flow)
            return JSONResponse(await self.shown(connection, await self.user_of(connection, user["id"])))

    async def new_user(
        self, connection: Connection, email: str, password: str | None, data: Row, confirm: bool | None = None
    ) -> Row:
        """Sign somebody up, confirmed unless config.toml or `confirm` says otherwise."""
        if not self.config.signup and confirm is None:
            raise AuthError(422, "signup_disabled", "Signups not allowed for this instance")
        hashed = await hash_password(password) if password else None
        user_id = uuid.uuid4()
        claims = {"sub": str(user_id), "email": email, "email_verified": False, "phone_verified": False}
        try:
            async with connection.transaction():
                return await store.create_user(
                    connection, email, hashed, {**data, **claims},
                    {"provider": "email", "providers": ["email"]},
                    confirm=not self.config.confirmations if confirm is None else confirm, user_id=user_id,
                )  # fmt: skip
        except psycopg.errors.UniqueViolation as error:
            # Only then is it this user that exists; a trigger's own violation is another matter.
            if error.diag.schema_name == "auth":
                raise registered() from error
            raise

    async def _sign_up_anonymously(self, request: Request, data: Row) -> Response:
        if not self.config.anonymous:
            raise AuthError(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
        if not self._anonymous.of(client(request)).spend():
            raise TOO_OFTEN
        async with self.pool.connection() as connection:
            async with connection.transaction():
                user = await store.create_user(connection, None, None, data, {}, confirm=False)
            return await self.new_session(connection, request, user, "anonymous")

    async def token(self, request: Request) -> Response:
        """?grant_type=password, refresh_token, or pkce with the code of a link -> a session."""
        match request.query_params.get("grant_type"):
            case "password":
                return await self._password_grant(request)
            case "refresh_token":
                return await self._refresh_grant(request)
            case "pkce":
                return await self.sign_in.exchange(request, await inputs.body(request))
        raise AuthError(400, "invalid_credentials", "unsupported_grant_type")

    async def _password_grant(self, request: Request) -> Response:
        params = await inputs.body(request)
        email, password = inputs.text(params, "email"), inputs.text(params, "password")
        if email is None and inputs.text(params, "phone"):
            raise AuthError(400, "phone_provider_disabled", "Phone logins are disabled")
        if email is None:
            raise AuthError(400, "validation_failed", "missing email or phone")
        async with self.pool.connection() as connection:
            user = await store.user_by_email(connection, email.lower())
            if user is None or not await same_password(password or "", user["encrypted_password"]):
                raise invalid_credentials()
            if banned(user):
                raise AuthError(400, "user_banned", "User is banned")
            if user["email_confirmed_at"] is None:
                raise AuthError(400, "email_not_confirmed", "Email not confirmed")
            return await self.new_session(connection, request, user)

    async def new_session(
        self, connection: Connection, request: Request, user: Row, method: str = "password"
    ) -> Response:
        """A session that begins now, as clients get it."""
        return JSONResponse(await self.session(connection, request, user, method))

    async def session(self, connection: Connection, request: Request, user: Row, method: str) -> Row:
        """A session that begins now."""
        if banned(user):
            raise AuthError(403, "user_banned", "User is banned")
        async with connection.transaction():
            agent = request.headers.get("user-agent", "")
            session_id, refresh = await store.open_session(connection, user["id"], agent)
        return await self._session_of(connection, user["id"], session_id, refresh, method)

    async def _refresh_grant(self, request: Request) -> Response:
        params = await inputs.body(request)
        wanted = inputs.text(params, "refresh_token")
        if wanted is None:
            raise AuthError(400, "validation_failed", "refresh_token required")
        stolen = False
        async with self.pool.connection() as connection:
            async with connection.transaction():
                token = await store.locked_token(connection, wanted)
                if token is None:
                    message = "Invalid Refresh Token: Refresh Token Not Found"
                    raise AuthError(400, "refresh_token_not_found", message)
                user = await store.user_by_id(connection, uuid.UUID(token["user_id"]))
                if user and banned(user):
                    raise AuthError(400, "user_banned", "Invalid Refresh Token: User Banned")
                refresh = None
                if token["revoked"]:
                    active = await store.active_token(connection, token["session_id"])
                    if active and active["parent"] == wanted:
                        # The client never got the answer to its last refresh.
                        refresh = active["token"]
                    elif datetime.now(UTC) > store.reuse_ends(token, REUSE_INTERVAL):
                        # Two hold the same token, and one of them is not its owner.
                        stolen = True
                        await store.revoke_session_tokens(connection, token["session_id"])
                if not stolen and refresh is None:
                    refresh = await store.rotate(connection, token)
            # Raised outside the transaction: the revocation has to stay.
            if stolen or refresh is None:
                raise AuthError(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
            user_id = uuid.UUID(token["user_id"])
            session = await self._session_of(
                connection, user_id, token["session_id"], refresh, "token_refresh"
            )
            return JSONResponse(session)

    async def _session_of(
        self, connection: Connection, user_id: uuid.UUID, session_id: uuid.UUID, refresh: str, method: str
    ) -> Row:
        user = await self.user_of(connection, user_id)
        access, expires_at = self.tokens.sign(user, str(session_id), method)
        return {
            "access_token": access,
            "token_type": "bearer",
            "expires_in": LIFETIME,
            "expires_at": expires_at,
            "refresh_token": refresh,
            "user": await self.shown(connection, user),
            "weak_password": None,
        }

    # -- the signed-in user ----------------------------------------------------------------------

    async def _signed_in(self, connection: Connection, request: Request) -> tuple[Row, uuid.UUID | None]:
        """The user and the session that the token names. Raises AuthError when either is gone."""
        claims = self.tokens.claims(request)
        try:
            user_id = uuid.UUID(claims["sub"])
            session_id = uuid.UUID(claims["session_id"]) if claims.get("session_id") else None
        except KeyError as error:
            raise AuthError(403, "bad_jwt", "invalid claim: missing sub claim") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise AuthError(400, "bad_jwt", "invalid claim: sub claim must be a UUID") from error
        if claims.get("aud") != "authenticated":
            raise AuthError(400, "validation_failed", "Token audience doesn't match request audience")
        user = await store.user_by_id(connection, user_id)
        if user is None:
            raise AuthError(403, "user_not_found", "User from sub claim in JWT does not exist")
        if session_id and not await store.session_of(connection, session_id, user_id):
            raise AuthError(403, "session_not_found", "Session from session_id claim in JWT does not exist")
        if banned(user):
            raise AuthError(403, "user_banned", "User is banned")
        return user, session_id

    async def user_of(self, connection: Connection, user_id: uuid.UUID) -> Row:
        """The user with that id. Raises AuthError."""
        user = await store.user_by_id(connection, user_id)
        if user is None:
            raise AuthError(404, "user_not_found", "User not found")
        return user

    async def shown(self, connection: Connection, user: Row) -> Row:
        """A user as clients see it."""
        identities = await store.identities(connection, [user["id"]])
        return user_json(user, identities[user["id"]])

    async def get_user(self, request: Request) -> Response:
        """The user of the token."""
        async with self.pool.connection() as connection:
            user, _ = await self._signed_in(connection, request)
            return JSONResponse(await self.shown(connection, user))

    async def put_user(self, request: Request) -> Response:
        """{email?, password?, data?} -> the user. A new password ends the other sessions.

        A new address counts once its codes have come back; that of an anonymous user at once, where
        addresses need not be confirmed.
        """
        params = await inputs.body(request)
        if params.get("app_metadata") is not None:
            raise AuthError(403, "not_admin", "Updating app_metadata requires admin privileges")
        email, password, data = inputs.email(params), inputs.password(params), inputs.mapping(params, "data")
        async with self.pool.connection() as connection:
            user, session_id = await self._signed_in(connection, request)
            changes: Row = {}
            address = email if email != user["email"] else None
            if address:
                await self.require_unused(connection, address)
            if password:
                if user["is_anonymous"] and not address:
                    raise AuthError(
                        422,
                        "validation_failed",
                        "Updating password of an anonymous user without an email or phone is not allowed",
                    )
                if await same_password(password, user["encrypted_password"]):
                    raise AuthError(
                        422, "same_password", "New password should be different from the old password."
                    )
                changes["encrypted_password"] = await hash_password(password)
            if data is not None:
                changes["raw_user_meta_data"] = merged(user["raw_user_meta_data"], data)
            async with connection.transaction():
                await store.update_user(connection, user["id"], changes)
                if password:
                    await store.end_sessions(connection, user["id"], keep=session_id)
                if address and user["is_anonymous"] and not self.config.confirmations:
                    await codes.take_address(connection, user, address)
                elif address:
                    flow = self.sign_in.flow(request, params)
                    await self.sign_in.change_address(connection, user["id"], address, flow)
            return JSONResponse(await self.shown(connection, await self.user_of(connection, user["id"])))

    async def require_unused(self, connection: Connection, email: str) -> None:
        """Raises AuthError when the address is somebody's."""
        if await store.user_by_email(connection, email):
            raise AuthError(422, "email_exists", "A user with this email address has already been registered")

    async def logout(self, request: Request) -> Response:
        """?scope=global (default), local or others -> 204."""
        scope = request.query_params.get("scope") or "global"
        if scope not in ("global", "local", "others"):
            raise AuthError(400, "validation_failed", f'Unsupported logout scope "{scope}"')
        async with self.pool.connection() as connection:
            user, session_id = await self._signed_in(connection, request)
            only = session_id if scope == "local" else None
            keep = session_id if scope == "others" else None
            await store.end_sessions(connection, user["id"], only=only, keep=keep)
        return Response(status_code=204)

    # -- the admin's -----------------------------------------------------------------------------

    async def admin_create(self, request: Request) -> Response:
        """Make a user: {email} and what may come with it -> the user.

        That is password, email_confirm, user_metadata, app_metadata, role, id and ban_duration.
        """
        self.tokens.require_admin(request)
        params = await inputs.body(request)
        email, password = inputs.email(params), inputs.password(params)
        user_metadata = inputs.mapping(params, "user_metadata") or {}
        app_metadata = {
            "provider": "email",
            "providers": ["email"],
            **(inputs.mapping(params, "app_metadata") or {}),
        }
        confirm, role = inputs.flag(params, "email_confirm"), inputs.text(params, "role") or "authenticated"
        ban, wanted_id = inputs.ban_duration(params), inputs.text(params, "id")
        if email is None:
            raise AuthError(400, "validation_failed", "Cannot create a user without either an email or phone")
        try:
            user_id = uuid.UUID(wanted_id) if wanted_id else None
        except ValueError as error:
            raise AuthError(400, "validation_failed", "ID must conform to the uuid v4 format") from error
        async with self.pool.connection() as connection:
            await self.require_unused(connection, email)
            hashed = await hash_password(password or secrets.token_urlsafe(32))
            async with connection.transaction():
                user = await store.create_user(
                    connection,
                    email,
                    hashed,
                    user_metadata,
                    app_metadata,
                    confirm=confirm,
                    role=role,
                    user_id=user_id,
                )
                if ban:
                    await store.update_user(connection, user["id"], {"banned_until": datetime.now(UTC) + ban})
            return JSONResponse(await self.shown(connection, await self.user_of(connection, user["id"])))

    async def admin_list(self, request: Request) -> Response:
        """?page=1&per_page=50 -> {users, aud}; the total is in the header x-total-count."""
        self.tokens.require_admin(request)
        try:
            page = int(request.query_params.get("page") or 1)
            size = int(request.query_params.get("per_page") or 50)
        except ValueError as error:
            raise AuthError(400, "validation_failed", f"Bad Pagination Parameters: {error}") from error
        if not 1 <= page <= 10**9 or not 1 <= size <= 1000:
            raise AuthError(
                400, "validation_failed", "Bad Pagination Parameters: page or per_page is out of range"
            )
        async with self.pool.connection() as connection:
            users, total = await store.page_of_users(connection, (page - 1) * size, size)
            identities = await store.identities(connection, [user["id"] for user in users])
        last = max(1, -(-total // size))
        links = [f'</admin/users?page={last}&per_page={size}>; rel="last"']
        if page < last:
            links.insert(0, f'</admin/users?page={page + 1}&per_page={size}>; rel="next"')
        shown = [user_json(user, identities[user["id"]]) for user in users]
        headers = {"x-total-count": str(total), "link": ", ".join(links)}
        return JSONResponse({"users": shown, "aud": "authenticated"}, headers=headers)

    async def _named(self, connection: Connection, request: Request) -> Row:
        """The user whose id is in the path."""
        try:
            user_id = uuid.UUID(request.path_params["user_id"])
        except ValueError as error:
            raise AuthError(404, "validation_failed", "user_id must be an UUID") from error
        return await self.user_of(connection, user_id)

    async def admin_get(self, request: Request) -> Response:
        """One user."""
        self.tokens.require_admin(request)
        async with self.pool.connection() as connection:
            return JSONResponse(await self.shown(connection, await self._named(connection, request)))

    async def admin_update(self, request: Request) -> Response:
        """The same fields as admin_create -> the user. A new password ends all sessions."""
        self.tokens.require_admin(request)
        params = await inputs.body(request)
        email, password, role = inputs.email(params), inputs.password(params), inputs.text(params, "role")
        user_metadata, app_metadata = (
            inputs.mapping(params, "user_metadata"),
            inputs.mapping(params, "app_metadata"),
        )
        confirm, ban = inputs.flag(params, "email_confirm"), inputs.ban_duration(params)
        async with self.pool.connection() as connection:
            user = await self._named(connection, request)
            changes: Row = {}
            if email and email != user["email"]:
                await self.require_unused(connection, email)
                changes["email"] = email
            if password:
                changes["encrypted_password"] = await hash_password(password)
            if role:
                changes["role"] = role
            if user_metadata is not None:
                changes["raw_user_meta_data"] = merged(user["raw_user_meta_data"], user_metadata)
            if app_metadata is not None:
                changes["raw_app_meta_data"] = merged(user["raw_app_meta_data"], app_metadata)
            if confirm and user["email_confirmed_at"] is None:
                changes["email_confirmed_at"] = datetime.now(UTC)
            if ban is not None:
                changes["banned_until"] = datetime.now(UTC) + ban if ban else None
            async with connection.transaction():
                await store.update_user(connection, user["id"], changes)
                if password:
                    await store.end_sessions(connection, user["id"])
            return JSONResponse(await self.shown(connection, await self.user_of(connection, user["id"])))

    async def admin_delete(self, request: Request) -> Response:
        """{should_soft_delete?} -> {}."""
        self.tokens.require_admin(request)
        soft = inputs.flag(await inputs.body(request), "should_soft_delete")
        async with self.pool.connection() as connection:
            user = await self._named(connection, request)
            async with connection.transaction():
                await store.delete_user(connection, user["id"], soft)
        return JSONResponse({})


def registered() -> AuthError:
    """The address is somebody's already."""
    return AuthError(422, "user_already_exists", "User already registered")


def stranger(email: str, data: Row) -> Row:
    """A user who is not there, for who signs up with another's confirmed address: it tells them nothing."""
    now = instant(datetime.now(UTC))
    return {
        "id": str(uuid.uuid4()), "aud": "authenticated", "role": "", "email": email, "phone": "",
        "confirmation_sent_at": now, "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": data, "identities": [], "created_at": now, "updated_at": now, "is_anonymous": False,
    }  # fmt: skip


async def absent(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the form of every other error."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    message = (
        f"The local Auth has no {what}: it serves e-mail with password, code or link, and the admin's users"
    )
    answer = AuthError(error.status_code, "feature_disabled", message).response(request)
    answer.headers.update(error.headers or {})
    return answer


def guarded(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Turn every error of an endpoint into an answer that clients understand."""

    @functools.wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except AuthError as error:
            return error.response(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except psycopg.DataError as error:
            # Values that Postgres cannot hold: too long, or a number beyond its range.
            return AuthError(
                400, "validation_failed", f"Invalid value: {error.diag.message_primary}"
            ).response(request)
        except psycopg.Error as error:
            # As hosted: a failing trigger on auth.users ends here, and the client learns no more.
            log.error("%s %s: %s", request.method, request.url.path, str(error).strip())
            return AuthError(500, "unexpected_failure", f"Database error {doing(request)}").response(request)
        except Exception:
            log.exception("%s %s", request.method, request.url.path)
            message = "Unexpected failure, please check server logs for more information"
            return AuthError(500, "unexpected_failure", message).response(request)

    return answer


def doing(request: Request) -> str:
    """What a request was about, for the message of a database error."""
    if request.url.path.endswith("/signup"):
        return "saving new user"
    return {"POST": "creating", "PUT": "updating", "DELETE": "deleting"}.get(
        request.method, "finding"
    ) + " user"
