"""The HTTP server: keys, idempotency, errors and headers around the endpoints of the other modules."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from . import (  # noqa: F401 - the modules register their routes
    catalog,
    checkout,
    clock,
    customers,
    disputes,
    events,
    expand,
    forms,
    fraud_warnings,
    invoices,
    params,
    payments,
    portal,
    refunds,
    subscriptions,
)
from .controls import control_routes
from .deliver import Courier
from .errors import JSON, ApiError
from .pages import page_routes
from .routes import ROUTES, Route
from .world import API_VERSION, DAY, World, new_id, public

log = logging.getLogger("stripe")
KEY_LIFETIME = DAY
BODY_LIMIT = 1024 * 1024


class Api:
    """Answers /v1/...: one transaction a request."""

    def __init__(self, world: World, key: str, courier: Courier) -> None:
        self.world, self.key, self.courier = world, key, courier

    async def respond(self, request: Request) -> Response:
        """The answer to one request."""
        request_id = new_id("req_", 14)
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        body = (await request.body()).decode("utf-8", "replace")
        tree: JSON = {}
        replayed = False
        try:
            self._authorize(request)
            self._check(request, body, key)
            tree = forms.decode(body if request.method == "POST" else request.url.query)
            kept = self._claim(key, request, body, request_id) if key else None
            if kept:
                status, answer, request_id = kept["status"], json.loads(kept["body"]), kept["request_id"]
                replayed = True
            else:
                status, answer = await self._once(request, tree, key, request_id)
        except ApiError as error:
            status, answer = error.status, error.body(request_id)
        except Exception:
            log.exception("%s %s broke off", request.method, request.url.path)
            broken = ApiError("The local Stripe has a bug; its log says more.", kind="api_error", status=500)
            status, answer = 500, broken.body(request_id)
        headers = {"Request-Id": request_id, "Stripe-Version": API_VERSION}
        if key:
            headers["Idempotency-Key"] = key
            headers["Original-Request"] = request_id
        if replayed:
            headers["Idempotent-Replayed"] = "true"
        self._log(request, tree, key, status, request_id, replayed)
        return JSONResponse(answer, status, headers)

    async def _once(self, request: Request, tree: JSON, key: str | None, request_id: str) -> tuple[int, JSON]:
        """Carry it out, and keep the result with the key. One that changes nothing is kept afterwards; what
        is refused for its form leaves the key free.
        """
        kept = False
        try:
            status, answer = await self._perform(request, tree, key, request_id)
            kept = True
        except ApiError as error:
            if error.validation:
                raise
            status, answer = error.status, error.body(request_id)
            if key:
                self._keep(key, status, answer)
            kept = True
        finally:
            if key and not kept:
                self.world.store.run("delete from idempotency where key = ?", key)
        return status, answer

    @staticmethod
    def _check(request: Request, body: str, key: str | None) -> None:
        version = request.headers.get("stripe-version", API_VERSION)
        if not re.fullmatch(r"20\d\d-\d\d-\d\d\.[a-z]+(\.preview)?", version):
            raise ApiError(f"Invalid Stripe API version: {version}")
        if len(body) > BODY_LIMIT:
            raise ApiError("The request body is too large.", status=413)
        if key is not None and not 1 <= len(key) <= 255:
            raise ApiError("Idempotency keys have 1 to 255 characters.", kind="idempotency_error")

    def _authorize(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            with contextlib.suppress(ValueError):
                given = base64.b64decode(given).decode("latin-1").partition(":")[0]
        if not given:
            raise ApiError(
                "You did not provide an API key. You need to provide your API key in the Authorization "
                "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').", status=401,
            )  # fmt: skip
        if not hmac.compare_digest(given.encode(), self.key.encode()):
            shown = f"{given[:8]}{'*' * 12}{given[-4:]}" if len(given) > 16 else "*" * len(given)
            raise ApiError(f"Invalid API Key provided: {shown}", status=401)

    # -- idempotency ---------------------------------------------------------------------------

    def _claim(self, key: str, request: Request, body: str, request_id: str) -> Any:
        """The kept result of an earlier request with this key; None when this one is the first."""
        store, now = self.world.store, self.world.now()
        fingerprint = hashlib.sha256(f"{request.method} {request.url.path}\n{body}".encode()).hexdigest()
        store.run("delete from idempotency where created < ?", now - KEY_LIFETIME)
        rows = store.rows("select * from idempotency where key = ?", key)
        if not rows:
            store.run(
                "insert into idempotency (key, fingerprint, created, request_id) values (?, ?, ?, ?)",
                key, fingerprint, now, request_id,
            )  # fmt: skip
            return None
        if rows[0]["fingerprint"] != fingerprint:
            raise ApiError(
                "Keys for idempotent requests can only be used with the same parameters they were first used "
                f"with. Try using a key other than '{key}' if you meant to execute a different request.",
                kind="idempotency_error",
            )
        if rows[0]["status"] is None:
            raise ApiError(
                "There is currently another in-progress request using this Idempotent Key (that "
                "probably means "
                f"you submitted twice, and the other request is still going through): {key}. Please try "
                f"again "
                "later.", status=409, kind="idempotency_error", code="idempotency_key_in_use",
            )  # fmt: skip
        return rows[0]

    def _keep(self, key: str, status: int, answer: JSON) -> None:
        self.world.store.run(
            "update idempotency set status = ?, body = ? where key = ?", status, json.dumps(answer), key
        )

    # -- the request itself --------------------------------------------------------------------

    async def _perform(
        self, request: Request, tree: JSON, key: str | None, request_id: str
    ) -> tuple[int, JSON]:
        path = request.url.path
        found = next(
            ((r, names) for r in ROUTES if (names := r.match(request.method, path)) is not None), None
        )
        if not found:
            raise ApiError(
                f"Unrecognized request URL ({request.method}: {path}). The local Stripe does not have this "
                "endpoint.", status=404, validation=True,
            )  # fmt: skip
        trouble = self._trouble()
        if trouble.get("seconds"):
            await asyncio.sleep(trouble["seconds"])
        if trouble.get("status") and not trouble["after"]:
            raise _trouble_error(trouble)
        answer = self._transact(found[0], found[1], tree, key, request_id)
        self.courier.wake.set()
        if trouble.get("status"):
            raise _trouble_error(trouble)
        return 200, answer

    def _transact(
        self, route: Route, names: dict[str, str], tree: JSON, key: str | None, request_id: str
    ) -> JSON:
        world = self.world
        kept: ApiError | None = None
        answer: JSON = {}
        clock.tick(world)
        with world.store.transaction():
            world.request_id, world.idempotency_key = request_id, key
            try:
                p = params.check(route.fields, tree)
                answer = route.handler(world, p, **names)
                answer = public(expand.expand(world, answer, p.get("expand", [])))
                if key:  # with what was done, or not at all: a kill in between must not make it happen twice
                    self._keep(key, 200, answer)
            except ApiError as error:
                if not error.keep:
                    raise
                kept = error
                if key:
                    self._keep(key, error.status, error.body(request_id))
            finally:
                world.request_id = world.idempotency_key = None
        if kept:
            raise kept
        return answer

    def _trouble(self) -> JSON:
        """What a control wants to go wrong with this request."""
        plan: JSON = self.world.store.setting("trouble") or {}
        if plan.get("times", 0) < 1:
            return {}
        self.world.store.set("trouble", {**plan, "times": plan["times"] - 1})
        return plan

    def _log(
        self, request: Request, tree: JSON, key: str | None, status: int, request_id: str, replayed: bool
    ) -> None:
        entry = {
            "method": request.method, "path": request.url.path, "params": tree, "idempotency_key": key,
            "status": status, "request_id": request_id, "replayed": replayed,
            "version": request.headers.get("stripe-version"),
        }  # fmt: skip
        self.world.store.run("insert into requests (json) values (?)", json.dumps(entry))


def _trouble_error(plan: JSON) -> ApiError:
    kinds = {429: "invalid_request_error"}
    return ApiError(
        "An error that a control asked for.", status=plan["status"],
        kind=kinds.get(plan["status"], "api_error"), code="rate_limit" if plan["status"] == 429 else None,
        validation=plan["status"] == 429 or not plan["after"],
    )  # fmt: skip


def application(world: World, key: str, secret: str) -> Starlette:
    """The whole app, with its background tasks."""
    courier = Courier(world, secret)
    api = Api(world, key, courier)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "api_version": API_VERSION})

    async def watch() -> None:
        while True:
            await asyncio.sleep(1)
            try:
                clock.tick(world)
                courier.wake.set()
            except Exception:
                log.exception("What was due could not be done")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(courier.run()), asyncio.create_task(watch())]
        yield
        for task in tasks:
            task.cancel()
        await courier.close()
        world.store.close()

    return Starlette(
        routes=[
            Path("/health", health),
            *control_routes(world, courier),
            *page_routes(world, courier),
            Path("/{path:path}", api.respond, methods=["GET", "POST", "DELETE"]),
        ],
        lifespan=lifespan,
    )
