"""The controls, on the server's side: POST /_control/VERB with JSON. control.py is their client and says
what each does. They need no key: the server listens on loopback only.
"""

import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from . import checkout, clock, disputes, events, fraud_warnings, payments, refunds
from .deliver import Courier
from .errors import JSON, ApiError
from .world import World, public

Control = Callable[[World, Courier, JSON], Any]


def _session(world: World, given: JSON) -> JSON:
    return world.get("checkout.session", given["session"])


def complete(world: World, courier: Courier, given: JSON) -> JSON:
    """Pay a session."""
    session = _session(world, given)
    if given.get("code"):
        why_not = checkout.apply_code(world, session, given["code"])
        if why_not:
            raise ApiError(why_not)
    return checkout.complete(
        world, session, delayed=given.get("delayed", False), card=given.get("card", True),
        address=given.get("email") or "buyer@example.com",
    )  # fmt: skip


def decline(world: World, courier: Courier, given: JSON) -> JSON:
    """Try a card that is declined."""
    return checkout.decline(world, _session(world, given), given.get("reason", "generic_decline"))


def expire(world: World, courier: Courier, given: JSON) -> JSON:
    """Expire a session now."""
    return checkout.expire(world, _session(world, given))


def finish_delayed(world: World, courier: Courier, given: JSON) -> JSON:
    """End a delayed payment."""
    return checkout.finish_delayed(world, _session(world, given), given["success"])


def _charge(world: World, given: JSON) -> JSON:
    charge_id = given["charge"]
    if charge_id.startswith("pi_"):
        charge_id = world.get("payment_intent", charge_id)["latest_charge"]
    return world.get("charge", charge_id)


def dispute(world: World, courier: Courier, given: JSON) -> JSON:
    """Open a dispute or an inquiry."""
    return disputes.open_dispute(
        world, _charge(world, given), given.get("amount"), given.get("reason", "fraudulent"),
        given.get("inquiry", False),
    )  # fmt: skip


def warn_of_fraud(world: World, courier: Courier, given: JSON) -> JSON:
    """An early fraud warning."""
    return fraud_warnings.warn(world, _charge(world, given), given.get("fraud_type", "made_with_stolen_card"))


def move_dispute(world: World, courier: Courier, given: JSON) -> JSON:
    """Win, lose, close, prevent or escalate."""
    found = world.get("dispute", given["dispute"])
    if given["to"] in ("block", "resolve"):
        return disputes.prevent(world, found, refunded=given["to"] == "resolve")
    if given["to"] == "escalate":
        return disputes.escalate(world, found)
    return disputes.close_dispute(world, found, won=given["to"] == "win")


def settle_refund(world: World, courier: Courier, given: JSON) -> JSON:
    """The end of a refund."""
    return refunds.settle_refund(world, world.get("refund", given["refund"]), given["success"])


def fail_payments(world: World, courier: Courier, given: JSON) -> JSON:
    """The next charges without a page fail."""
    reason = given.get("reason", "generic_decline")
    if reason not in payments.DECLINES:
        raise ApiError(f"Choose a reason of {', '.join(payments.DECLINES)}.")
    plan = {"times": given.get("times", 1), "customer": given.get("customer"), "reason": reason}
    world.declines = plan
    return plan


def advance(world: World, courier: Courier, given: JSON) -> JSON:
    """Move the clock."""
    seconds = given["seconds"]
    if not isinstance(seconds, int) or not 0 <= seconds <= 800 * 86400:
        raise ApiError("seconds is a whole number from 0 to 69120000 (800 days).")
    return {"happened": clock.advance(world, seconds), "now": world.now()}


def now(world: World, courier: Courier, given: JSON) -> JSON:
    """The clock."""
    return {"now": world.now()}


def delivery(world: World, courier: Courier, given: JSON) -> JSON:
    """How events are delivered from now on."""
    if given["mode"] not in ("normal", "hold", "drop", "shuffle"):
        raise ApiError("mode is one of normal, hold, drop, shuffle.")
    mode = {
        "mode": given["mode"], "times": given.get("times", 1), "seed": given.get("seed", 0),
        "window": given.get("window", 0.2),
    }  # fmt: skip
    world.store.set("delivery", mode)
    return mode


def settings(world: World, courier: Courier, given: JSON) -> JSON:
    """Other settings: only the names that are given change."""
    known = ("webhook_url", "enabled_events", "secrets", "first_retry", "trouble")
    for name, value in given.items():
        if name not in known:
            raise ApiError(f"{name} is not a setting; there are {', '.join(known)}.")
        world.store.set(name, value)
    return {name: world.store.setting(name) for name in known if name != "secrets"}


def reset(world: World, courier: Courier, given: JSON) -> JSON:
    """Settings as at first; objects stay."""
    world.declines = None
    for name in ("delivery", "webhook_url", "enabled_events", "secrets", "first_retry", "trouble"):
        world.store.run("delete from settings where name = ?", name)
    return {}


def redeliver(world: World, courier: Courier, given: JSON) -> JSON:
    """Queue an event again, as with `stripe events resend`."""
    event = world.get("event", given["event"])
    url = world.webhook_url()
    for _ in range(given.get("times", 1)):
        world.store.run(
            "insert into deliveries (event, url, state, due) values (?, ?, 'pending', ?)",
            event["id"],
            url,
            time.time(),
        )
    return event


def deliveries(world: World, courier: Courier, given: JSON) -> JSON:
    """Deliveries with their attempts, oldest first."""
    event = given.get("event")
    rows = world.store.rows(
        "select d.*, json_extract(o.json, '$.type') as type "
        "from deliveries d join objects o on o.id = d.event where ?1 is null or d.event = ?1 order by d.id",
        event,
    )
    attempts: dict[int, list[JSON]] = {}
    for row in world.store.rows("select * from attempts where ?1 is null or event = ?1 order by seq", event):
        attempts.setdefault(row["delivery"], []).append(
            {"at": row["at"], "status": row["status"], "error": row["error"], "body": row["body"]}
        )
    return {
        "data": [
            {
                "id": row["id"], "event": row["event"], "type": row["type"], "url": row["url"],
                "state": row["state"], "due": row["due"], "attempts": attempts.get(row["id"], []),
            }
            for row in rows
        ]
    }  # fmt: skip


def pending(world: World, courier: Courier, given: JSON) -> JSON:
    """How many deliveries are in each state."""
    rows = world.store.rows("select state, count(*) as n from deliveries group by state")
    return {row["state"]: row["n"] for row in rows}


def forget_deliveries(world: World, courier: Courier, given: JSON) -> JSON:
    """Give up on whatever is not delivered: nothing is tried again."""
    count = world.store.run(
        "update deliveries set state = 'dropped', due = null where state in ('pending', 'held')"
    )
    return {"dropped": count.rowcount}


def requests(world: World, courier: Courier, given: JSON) -> JSON:
    """API requests since `after`, oldest first."""
    rows = world.store.rows(
        "select seq, json from requests where seq > ? order by seq", given.get("after", 0)
    )
    return {"data": [{"seq": row["seq"], **json.loads(row["json"])} for row in rows]}


def all_events(world: World, courier: Courier, given: JSON) -> JSON:
    """Events, oldest first, of any age: of a type, after another event, or all."""
    rows = world.store.rows(
        "select json from objects where object = 'event' and (?1 is null or json_extract(json, "
        "'$.type') = ?1) "
        "and seq > coalesce((select seq from objects where id = ?2), 0) order by seq",
        given.get("type"), given.get("after"),
    )  # fmt: skip
    return {"data": [events.current(world, json.loads(row["json"])) for row in rows]}


def last_event(world: World, courier: Courier, given: JSON) -> JSON:
    """The newest event."""
    rows = world.store.rows("select id from objects where object = 'event' order by seq desc limit 1")
    return {"id": rows[0]["id"] if rows else None}


async def deliver(world: World, courier: Courier, given: JSON) -> JSON:
    """Send deliveries now, one attempt each, and tell what came of it."""
    states = given.get("states") or ["held", "pending"]
    marks = ", ".join("?" * len(states))
    rows = world.store.rows(
        f"select d.id, d.event, json_extract(o.json, '$.type') as type from deliveries d "  # noqa: S608
        f"join objects o on o.id = d.event where d.state in ({marks}) order by d.id",
        *states,
    )
    wanted_types, wanted_events = given.get("types"), given.get("events")
    chosen = [
        row["id"] for row in rows
        if (not wanted_types or row["type"] in wanted_types)
        and (not wanted_events or row["event"] in wanted_events)
    ]  # fmt: skip
    if wanted_events and given.get("ordered"):
        place = {event: n for n, event in enumerate(wanted_events)}
        events_of = {row["id"]: row["event"] for row in rows}
        chosen.sort(key=lambda delivery: place[events_of[delivery]])
    ids = chosen * given.get("times", 1)
    if given.get("seed") is not None:
        random.Random(given["seed"]).shuffle(ids)  # noqa: S311
    for delivery_id in chosen:
        world.store.run("update deliveries set state = 'sending' where id = ?", delivery_id)
    return {"data": await _send_all(courier, ids, given.get("connections", 1))}


async def _send_all(courier: Courier, ids: list[int], connections: int) -> list[JSON]:
    import asyncio

    queue, results = list(reversed(ids)), list[JSON]()

    async def worker() -> None:
        while queue:
            results.append(await courier.send(queue.pop()))

    await asyncio.gather(*(worker() for _ in range(connections)))
    return results


CONTROLS: dict[str, Control] = {
    control.__name__: control
    for control in (
        complete, decline, expire, finish_delayed, dispute, move_dispute, warn_of_fraud, settle_refund,
        fail_payments, advance,
        now, delivery, settings, reset, redeliver, deliveries, pending, forget_deliveries, requests,
        all_events,
        last_event,
    )
}  # fmt: skip


def control_routes(world: World, courier: Courier) -> list[Path]:
    """POST /_control/VERB."""

    async def answer(request: Request, act: Callable[[JSON], Awaitable[Any]]) -> Response:
        try:
            given = await request.json() if await request.body() else {}
            return JSONResponse(public(await act(given)))
        except ApiError as error:
            return JSONResponse({"message": str(error)}, error.status)
        except (KeyError, TypeError, ValueError) as error:
            return JSONResponse({"message": f"Bad control request: {type(error).__name__} {error}."}, 400)

    async def control(request: Request) -> Response:
        verb = CONTROLS.get(request.path_params["verb"])
        if not verb:
            return JSONResponse(
                {"message": f"No such control; there are {', '.join(CONTROLS)}, deliver."}, 404
            )

        async def act(given: JSON) -> Any:
            clock.tick(world)
            with world.store.transaction():
                result = verb(world, courier, given)
            courier.wake.set()
            return result

        return await answer(request, act)

    async def deliver_now(request: Request) -> Response:
        return await answer(request, lambda given: deliver(world, courier, given))

    return [
        Path("/_control/deliver", deliver_now, methods=["POST"]),
        Path("/_control/{verb}", control, methods=["POST"]),
    ]
