"""Events: what happened, for 30 days."""

from .errors import JSON
from .params import PAGE, boolean, list_of, text
from .routes import route
from .world import DAY, World

KEPT = 30 * DAY


def current(world: World, event: JSON) -> JSON:
    """An event with the number of deliveries that have not succeeded yet."""
    rows = world.store.rows(
        "select count(distinct url) as n from deliveries d where event = ? and state <> 'delivered' and "
        "not exists "
        "(select 1 from deliveries e where e.event = d.event and e.state = 'delivered')",
        event["id"],
    )
    return {**event, "pending_webhooks": rows[0]["n"]}


@route("GET", "/v1/events/{event}")
def retrieve(world: World, p: JSON, event: str) -> JSON:
    """Retrieve."""
    return current(world, world.get("event", event))


@route("GET", "/v1/events", {
    **PAGE, "type": text(), "types": list_of(text(), 20), "delivery_success": boolean,
})  # fmt: skip
def list_all(world: World, p: JSON) -> JSON:
    """List, newest first. Events older than 30 days are gone."""
    oldest = world.now() - KEPT
    created = dict(p.get("created") or {})
    created["gte"] = max(created.get("gte", oldest), oldest)
    extra: list[tuple[str, str]] = []
    if p.get("type"):
        extra.append(("json_extract(json, '$.type') glob ?", p["type"]))  # charge.* is all of a group
    if "delivery_success" in p:
        waits = "exists (select 1 from deliveries where event = objects.id and state <> ?)"
        extra.append((f"not {waits}" if p["delivery_success"] else waits, "delivered"))
    found = world.listing("event", "/v1/events", {**p, "created": created}, extra=extra)
    return {**found, "data": [current(world, event) for event in found["data"]]}
