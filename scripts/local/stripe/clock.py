"""What time brings: sessions expire, subscriptions renew, drafts are charged, failed charges tried again."""

from . import checkout, subscriptions
from .errors import JSON
from .world import World


def _on_due(world: World, item: JSON, at: int) -> None:
    if item["object"] == "checkout.session":
        checkout.expire(world, item)
    elif item["object"] == "subscription":
        subscriptions.on_due(world, item, at)
    elif item["object"] == "invoice":
        subscriptions.on_invoice_due(world, item)


def advance(world: World, seconds: int) -> int:
    """Move the clock on by so many seconds; whatever falls due happens at its own moment, in order.

    Returns how many things happened. With 0 it catches up with the present.
    """
    target = world.now() + seconds
    count = 0
    try:
        while found := world.store.next_due(target):
            item, due = found
            world.store.set("frozen_time", max(due, world.now()) if seconds else world.now())
            _on_due(world, item, max(due, 0))
            count += 1
    finally:
        world.store.set("frozen_time", None)
    if seconds:
        world.store.set("clock_offset", int(world.store.setting("clock_offset", 0)) + seconds)
    return count


def tick(world: World) -> None:
    """Catch up with the present, in a transaction of its own when something is due."""
    if world.store.next_due(world.now()):
        with world.store.transaction():
            world.request_id = world.idempotency_key = None
            advance(world, 0)
