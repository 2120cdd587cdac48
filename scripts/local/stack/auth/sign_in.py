"""The endpoints of codes and links: /otp, /magiclink, /recover, /resend, /verify, and the admin's."""

import secrets
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from ..rate import Rates
from . import codes, inputs, mails, store
from .codes import Flow
from .errors import AuthError
from .store import Connection, Row

if TYPE_CHECKING:
    from .app import Auth

SINGLE = "Confirmation link accepted. Please proceed to confirm link sent to the other email"
OAUTH_ERRORS = {400: "invalid_request", 401: "unauthorized_client", 403: "access_denied", 500: "server_error"}
TOO_OFTEN = AuthError(429, "over_request_rate_limit", "Request rate limit reached")


def client(request: Request) -> str:
    """Whom limits count."""
    return request.client.host if request.client else ""


def with_fragment(url: str, values: dict[str, str], query: dict[str, str] | None = None) -> str:
    """The URL with the values behind #, and more in its query."""
    parts = urlsplit(url)
    asked = "&".join(part for part in (parts.query, urlencode(query or {})) if part)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, asked, urlencode(values) or parts.fragment))


class SignIn:
    """Of one stack. Its routes are among those of Auth."""

    def __init__(self, auth: "Auth") -> None:
        self.auth, self.config, self.base = auth, auth.config, auth.tokens.issuer
        self._failures = Rates(self.config.verifications, 300.0)

    def routes(self) -> list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]:
        """Method, path, endpoint."""
        return [
            ("POST", "/otp", self.otp),
            ("POST", "/magiclink", self.otp),
            ("POST", "/recover", self.recover),
            ("POST", "/resend", self.resend),
            ("GET", "/verify", self.follow),
            ("POST", "/verify", self.verify),
            ("POST", "/invite", self.invite),
            ("POST", "/admin/generate_link", self.generate_link),
        ]

    def flow(self, request: Request, params: inputs.Json) -> Flow:
        """Where a link is to lead, and whether to a code."""
        asked = (request.query_params.get("redirect_to"), request.headers.get("redirect_to"),
                 request.headers.get("referer"))  # fmt: skip
        target = next(
            (url for url in asked if url and self.config.may_redirect_to(url)), self.config.site_url
        )
        challenge = inputs.text(params, "code_challenge")
        method = (inputs.text(params, "code_challenge_method") or "").lower()
        if bool(challenge) != bool(method):
            message = "PKCE flow requires code_challenge_method and code_challenge"
            raise AuthError(400, "validation_failed", message)
        if challenge and (method not in ("s256", "plain") or not 43 <= len(challenge) <= 128):
            raise AuthError(400, "validation_failed", "code challenge or its method is not valid")
        return Flow(target, challenge, method)

    async def send(self, connection: Connection, user_id: uuid.UUID, kind: str, flow: Flow) -> None:
        """Send a code to a user, as they are once it is their turn."""
        async with connection.transaction():
            user = await store.lock_user(connection, user_id)
            if user is not None and user["email"]:
                await codes.send_code(connection, self.config, self.base, user, kind, flow)

    # -- asking for a code -----------------------------------------------------------------------

    async def otp(self, request: Request) -> Response:
        """{email, create_user?, data?} -> {}; a code and a link are sent. Who is new is signed up."""
        params = await inputs.body(request)
        email, data = inputs.email(params), inputs.mapping(params, "data") or {}
        if email is None:
            if inputs.text(params, "phone"):
                raise AuthError(400, "phone_provider_disabled", "Unsupported phone provider")
            raise AuthError(400, "validation_failed", "One of email or phone must be set")
        flow = self.flow(request, params)
        async with self.auth.pool.connection() as connection:
            user = await store.user_by_email(connection, email)
            if user is None:
                if params.get("create_user") is False:
                    raise AuthError(422, "otp_disabled", "Signups not allowed for otp")
                user = await self.auth.new_user(connection, email, secrets.token_urlsafe(32), data)
            unconfirmed = user["email_confirmed_at"] is None and self.config.confirmations
            await self.send(connection, user["id"], "signup" if unconfirmed else "magiclink", flow)
        return JSONResponse({})

    async def recover(self, request: Request) -> Response:
        """{email} -> {}, also when nobody has that address."""
        params = await inputs.body(request)
        email = inputs.email(params)
        if email is None:
            raise AuthError(400, "validation_failed", "Password recovery requires an email")
        flow = self.flow(request, params)
        async with self.auth.pool.connection() as connection:
            if user := await store.user_by_email(connection, email):
                await self.send(connection, user["id"], "recovery", flow)
        return JSONResponse({})

    async def resend(self, request: Request) -> Response:
        """{type: signup or email_change, email} -> {}, also when there is nothing to send."""
        params = await inputs.body(request)
        kind, email = inputs.text(params, "type"), inputs.email(params)
        if kind not in ("signup", "email_change"):
            message = "Missing one of these types: signup, email_change, sms, phone_change"
            raise AuthError(400, "validation_failed", message)
        if email is None:
            raise AuthError(400, "validation_failed", "Type provided requires an email address")
        flow = self.flow(request, params)
        async with self.auth.pool.connection() as connection:
            user = await store.user_by_email(connection, email)
            if user and kind == "signup" and user["email_confirmed_at"] is None:
                await self.send(connection, user["id"], "signup", flow)
            elif user and kind == "email_change" and user["email_change"]:
                await self.change_address(connection, user["id"], user["email_change"], flow)
        return JSONResponse({})

    async def change_address(
        self, connection: Connection, user_id: uuid.UUID, address: str, flow: Flow
    ) -> None:
        """Send the codes for a change of address."""
        async with connection.transaction():
            user = await store.lock_user(connection, user_id)
            if user is not None:
                await codes.send_email_change(connection, self.config, self.base, user, address, flow)

    # -- a code that comes back ------------------------------------------------------------------

    async def _redeem(
        self, request: Request, connection: Connection, kind: str, token: str, address: str | None
    ) -> tuple[Row, str, bool]:
        """The user, the kind, and whether that was all. Raises AuthError, and counts it. In a transaction."""
        failures = self._failures.of(client(request))
        if failures.full():
            raise TOO_OFTEN
        try:
            user, found = await codes.redeem(connection, self.config, kind, token, address)
        except AuthError:
            failures.spend()
            raise
        complete = await codes.accept(connection, self.config, user, found)
        return user, found, complete

    async def verify(self, request: Request) -> Response:
        """{type, email, token} or {type, token_hash} -> a session."""
        params = await inputs.body(request)
        kind, token, token_hash = (inputs.text(params, name) for name in ("type", "token", "token_hash"))
        if kind is None:
            raise AuthError(400, "validation_failed", "Verify requires a verification type")
        if bool(token) == bool(token_hash):
            message = "Verify requires either a token or a token hash"
            raise AuthError(400, "validation_failed", message)
        if kind not in codes.PLACES:
            raise AuthError(400, "validation_failed", "Unsupported verification type")
        address = inputs.email(params)
        if token_hash and (address or inputs.text(params, "phone")):
            message = "Only the token_hash and type should be provided"
            raise AuthError(400, "validation_failed", message)
        if token and address is None:
            message = "Only an email address or phone number should be provided on verify"
            raise AuthError(400, "validation_failed", message)
        async with self.auth.pool.connection() as connection:
            async with connection.transaction():
                user, _, complete = await self._redeem(
                    request, connection, kind, token or token_hash or "", address
                )
            if not complete:
                return JSONResponse({"msg": SINGLE, "code": "200"})
            return await self.auth.new_session(connection, request, user, "otp")

    async def follow(self, request: Request) -> Response:
        """?type&token&redirect_to: a link -> 303 to the app, with tokens, a code or an error."""
        if request.method != "GET":
            # What only looks whether the link is there must not use it up.
            return Response(status_code=405, headers={"allow": "GET, POST"})
        kind, token = request.query_params.get("type"), request.query_params.get("token")
        if not kind or not token:
            missing = "a token or a token hash" if kind else "a verification type"
            raise AuthError(400, "validation_failed", f"Verify requires {missing}")
        target = self.flow(request, {}).redirect_to
        try:
            if kind not in codes.PLACES or "\0" in token:
                raise AuthError(400, "validation_failed", "Invalid email verification type")
            location = await self._followed(request, kind, token, target)
        except AuthError as error:
            said = {"error_code": error.code, "error_description": error.message}
            if error.status in OAUTH_ERRORS:
                said = {"error": OAUTH_ERRORS[error.status], **said}
            flows = said if token.startswith(codes.PKCE) else None
            location = with_fragment(target, {**said, "sb": ""}, flows)
        return RedirectResponse(
            location, 303, {"cache-control": "no-store", "referrer-policy": "no-referrer"}
        )

    async def _followed(self, request: Request, kind: str, token: str, target: str) -> str:
        """Where a good link leads. Raises AuthError."""
        pkce = token.startswith(codes.PKCE)
        async with self.auth.pool.connection() as connection:
            async with connection.transaction():
                user, found, complete = await self._redeem(request, connection, kind, token, None)
                code = None
                if complete and pkce:
                    code = await codes.issue_auth_code(connection, user["id"], found)
            if not complete:
                said = {"message": SINGLE}
                return with_fragment(target, {**said, "sb": ""}, said if pkce else None)
            if code:
                return with_fragment(target, {}, {"code": code})
            session = await self.auth.session(connection, request, user, "otp")
        names = ("access_token", "expires_at", "expires_in", "refresh_token", "token_type")
        return with_fragment(target, {**{name: str(session[name]) for name in names}, "sb": "", "type": kind})

    async def exchange(self, request: Request, params: inputs.Json) -> Response:
        """{auth_code, code_verifier} -> a session."""
        code, verifier = inputs.text(params, "auth_code"), inputs.text(params, "code_verifier")
        if not code or not verifier:
            message = "invalid request: both auth code and code verifier should be non-empty"
            raise AuthError(400, "validation_failed", message)
        async with self.auth.pool.connection() as connection:
            async with connection.transaction():
                user_id = await codes.exchange(connection, code, verifier)
            user = await self.auth.user_of(connection, user_id)
            return await self.auth.new_session(connection, request, user, "otp")

    # -- the admin's -----------------------------------------------------------------------------

    async def invite(self, request: Request) -> Response:
        """{email, data?} -> the user, to whom an invitation is sent."""
        self.auth.tokens.require_admin(request)
        params = await inputs.body(request)
        email, data = inputs.email(params), inputs.mapping(params, "data") or {}
        if email is None:
            raise AuthError(422, "validation_failed", "An email address is required")
        async with self.auth.pool.connection() as connection:
            user = await self._invited(connection, email, data)
            await self.send(connection, user["id"], "invite", self.flow(request, params))
            return JSONResponse(
                await self.auth.shown(connection, await self.auth.user_of(connection, user["id"]))
            )

    async def _invited(self, connection: Connection, email: str, data: Row) -> Row:
        user = await store.user_by_email(connection, email)
        if user and user["email_confirmed_at"]:
            await self.auth.require_unused(connection, email)
        user = user or await self.auth.new_user(connection, email, None, data, confirm=False)
        await connection.execute("update auth.users set invited_at = now() where id = %s", (user["id"],))
        return user

    async def generate_link(self, request: Request) -> Response:
        """{type, email, ...} -> the user with the link and the code, which are not sent."""
        self.auth.tokens.require_admin(request)
        params = await inputs.body(request)
        kind, email = inputs.text(params, "type"), inputs.email(params)
        password, data = inputs.password(params), inputs.mapping(params, "data") or {}
        if email is None:
            raise AuthError(400, "validation_failed", "An email address is required")
        async with self.auth.pool.connection() as connection:
            user = await store.user_by_email(connection, email)
            if kind == "magiclink" and user is None:
                kind, password = "signup", secrets.token_urlsafe(32)
            match kind:
                case "signup":
                    if user and user["email_confirmed_at"]:
                        await self.auth.require_unused(connection, email)
                    if user is None and password is None:
                        raise AuthError(400, "validation_failed", "Signup requires a valid password")
                    user = user or await self.auth.new_user(connection, email, password, data, confirm=False)
                case "invite":
                    user = await self._invited(connection, email, data)
                case "magiclink" | "recovery" | "email_change_current" | "email_change_new":
                    if user is None:
                        raise AuthError(404, "user_not_found", "User with this email not found")
                case _:
                    message = f"Invalid email action link type requested: {(kind or '')[:40]}"
                    raise AuthError(400, "validation_failed", message)
            return await self._generated(request, connection, user, kind, params)

    async def _generated(
        self, request: Request, connection: Connection, user: Row, kind: str, params: inputs.Json
    ) -> Response:
        changes: Row = {}
        address = user["email"]
        verifies = "email_change" if kind.startswith("email_change") else kind
        if verifies == "email_change":
            wanted = inputs.email({"email": params.get("new_email")})
            if wanted is None:
                raise AuthError(400, "validation_failed", "Unable to validate email address: invalid format")
            await self.auth.require_unused(connection, wanted)
            changes |= {"email_change": wanted, "email_change_confirm_status": 0}
            address = wanted if kind == "email_change_new" else address
            column, sent = codes.NEW if kind == "email_change_new" else codes.CURRENT
        else:
            column, sent = codes.PLACES[kind][0][0]
        code = codes.new_code(self.config)
        token = codes.hashed(address, code)
        wanted_url = inputs.text(params, "redirect_to")
        target = self.flow(request, {}).redirect_to
        if wanted_url and self.config.may_redirect_to(wanted_url):
            target = wanted_url
        async with connection.transaction():
            row = await store.one(connection, "select now() as now")
            assert row
            await store.update_user(connection, user["id"], {**changes, column: token, sent: row["now"]})
        shown = await self.auth.shown(connection, await self.auth.user_of(connection, user["id"]))
        return JSONResponse(
            {
                **shown,
                "action_link": mails.action_link(self.base, verifies, token, target),
                "email_otp": code,
                "hashed_token": token,
                "verification_type": kind,
                "redirect_to": target,
            }
        )

    # -- the page of messages --------------------------------------------------------------------

    async def mail(self, request: Request) -> Response:
        """/mail and /mail.json, ?to=ADDRESS: what would have been sent. For this machine's browser alone."""
        if request.url.hostname not in ("127.0.0.1", "localhost"):
            return Response("This page is for 127.0.0.1 and localhost.", 403)
        async with self.auth.pool.connection() as connection:
            rows = await mails.newest(connection, request.query_params.get("to"))
        return mails.as_json(rows) if request.url.path.endswith(".json") else mails.as_page(rows)
