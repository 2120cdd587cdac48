"""The state of the stand-in and the few verbs that all of its parts use: now, get, save, change, emit."""

import json
import secrets
import string
import time
from collections.abc import Callable, Iterable
from typing import Any

from .errors import JSON, ApiError, missing_object
from .store import Store

API_VERSION = "2026-08-26.dahlia"
ALPHABET = string.ascii_letters + string.digits
DAY = 24 * 3600

# When an object of a kind has to be looked at again; filled by the modules that know.
DUE: dict[str, Callable[[JSON], int | None]] = {}


def new_id(prefix: str, length: int = 24) -> str:
    """A random id."""
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(length))


def public(value: Any) -> Any:
    """Without the fields that begin with an underscore, which are ours."""
    if isinstance(value, dict):
        return {name: public(item) for name, item in value.items() if not name.startswith("_")}
    if isinstance(value, list):
        return [public(item) for item in value]
    return value


def page(data: list[JSON], url: str, has_more: bool = False) -> JSON:
    """A list object."""
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


class World:
    """One Stripe account in test mode."""

    def __init__(self, store: Store, base_url: str, webhook_url: str | None = None) -> None:
        self.store = store
        self.base_url = base_url
        self.default_webhook_url = webhook_url
        # Of the API request that is under way; events name it.
        self.request_id: str | None = None
        self.idempotency_key: str | None = None
        # Which charges a control lets fail next. In memory, so that a request that is rolled back counts.
        self.declines: JSON | None = None

    # -- time ----------------------------------------------------------------------------------

    def now(self) -> int:
        """Seconds since 1970 by the stand-in's clock: real time plus what was advanced."""
        frozen = self.store.setting("frozen_time")
        return (
            int(frozen)
            if frozen is not None
            else int(time.time()) + int(self.store.setting("clock_offset", 0))
        )

    # -- objects -------------------------------------------------------------------------------

    def get(self, kind: str, object_id: str | None, param: str = "id") -> JSON:
        """An object of a kind. Raises ApiError resource_missing."""
        item = self.store.get(object_id) if object_id else None
        if item is None or item["object"] != kind:
            raise missing_object(kind, str(object_id), param)
        return item

    def save(self, item: JSON) -> JSON:
        """Store an object as it is."""
        due = DUE.get(item["object"])
        self.store.put(item, due(item) if due else None)
        return item

    def create(self, item: JSON, event: str | None = None) -> JSON:
        """Store a new object and tell of it."""
        self.save(item)
        if event:
            self.emit(event, item)
        return item

    def change(self, item: JSON, event: str | None, **changes: Any) -> JSON:
        """Change fields, store, and tell of it when something did change."""
        previous = {
            name: item.get(name)
            for name, value in changes.items()
            if item.get(name) != value and not name.startswith("_")
        }
        item.update(changes)
        self.save(item)
        if event and previous:
            self.emit(event, item, previous)
        return item

    # -- events --------------------------------------------------------------------------------

    def webhook_url(self) -> str | None:
        """Where events go; None when nobody listens."""
        url: str | None = self.store.setting("webhook_url", self.default_webhook_url)
        return url

    def emit(self, kind: str, item: JSON, previous: JSON | None = None) -> JSON:
        """Make an event of an object as it is now, and queue its deliveries."""
        data: JSON = {"object": public(item)}
        if previous is not None:
            data["previous_attributes"] = public(previous)
        event: JSON = {
            "id": new_id("evt_"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now(),
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
            "type": kind,
        }
        url = self.webhook_url()
        wanted = self.store.setting("enabled_events", ["*"])
        listening = url is not None and ("*" in wanted or kind in wanted)
        event["pending_webhooks"] = int(listening)
        self.store.put(event)
        if listening:
            assert url is not None
            mode = self.store.setting("delivery", {"mode": "normal", "times": 1})
            state = {"hold": "held", "drop": "dropped"}.get(mode["mode"], "pending")
            due = time.time() + (mode.get("window", 0.2) if mode["mode"] == "shuffle" else 0)
            for _ in range(mode.get("times", 1)):
                self.store.run(
                    "insert into deliveries (event, url, state, due) values (?, ?, ?, ?)",
                    event["id"], url, state, due if state == "pending" else None,
                )  # fmt: skip
        return event

    # -- lists ---------------------------------------------------------------------------------

    def listing(
        self, kind: str, url: str, p: JSON, filters: Iterable[str] = (),
        extra: Iterable[tuple[str, Any]] = (), **where: Any,
    ) -> JSON:  # fmt: skip
        """A page of objects, newest first, as the parameters `p` ask.

        `filters` names parameters that equal a top-level field; `where` maps JSON paths, with __ for a dot,
        to values; `extra` are conditions with the value of their one placeholder.
        """
        conditions, values = ["object = ?"], [kind]
        for condition, value in extra:
            conditions.append(condition)
            values.append(value)
        wanted = {f"$.{name}": p[name] for name in filters if p.get(name) is not None}
        wanted |= {"$." + path.replace("__", "."): value for path, value in where.items()}
        for path, value in wanted.items():
            conditions.append(f"json_extract(json, '{path}') is ?")
            values.append(value)
        for operator, value in (p.get("created") or {}).items():
            sign = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "eq": "="}[operator]
            conditions.append(f"created {sign} ?")
            values.append(value)
        if p.get("types"):
            conditions.append(f"json_extract(json, '$.type') in ({', '.join('?' * len(p['types']))})")
            values += p["types"]
        order = "desc"
        for name, sign in (("starting_after", "<"), ("ending_before", ">")):
            if p.get(name):
                self.get(kind, p[name], name)
                this = "(select created, seq from objects where id = ?)"
                conditions.append(f"(created, seq) {sign} {this}")
                values.append(p[name])
                order = "desc" if sign == "<" else "asc"
        limit = p.get("limit", 10)
        sql = (
            f"select json from objects where {' and '.join(conditions)} "  # noqa: S608 - no text of a request
            f"order by created {order}, seq {order} limit {limit + 1}"
        )
        found = [json.loads(row["json"]) for row in self.store.rows(sql, *values)]
        data = found[:limit]
        if order == "asc":
            data.reverse()
        return page(data, url, len(found) > limit)


def merged(old: dict[str, str], new: dict[str, str] | None) -> dict[str, str]:
    """Metadata after an update: names are added, replaced, or taken out by an empty text."""
    if new is None:
        return old
    if new == {}:
        return {}
    return {name: value for name, value in {**old, **new}.items() if value != ""}


def refuse(message: str, code: str | None = None, param: str | None = None) -> ApiError:
    """A request that cannot be met in the present state."""
    return ApiError(message, code=code, param=param)
