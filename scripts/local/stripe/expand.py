"""`expand[]=payment_intent.latest_charge`: ids in an answer become objects."""

from typing import Any

from .checkout import includable_line_items
from .errors import JSON, ApiError
from .world import World, page

# Fields whose text is the id of another object.
REFERENCES = frozenset(
    "balance_transaction charge coupon customer default_payment_method failure_balance_transaction invoice "  # noqa: SIM905
    "latest_charge latest_invoice payment_intent payment_method product promotion_code setup_intent "
    "subscription discounts price".split()
)
# Those that an object only has once there is something to name.
ABSENT = frozenset({("refund", "failure_balance_transaction")})
DEPTH = 4


def expand(world: World, answer: JSON, paths: list[str]) -> JSON:
    """The answer with these paths expanded. In a list every path begins with `data`."""
    for path in paths:
        steps = path.split(".")
        if len(steps) > DEPTH + (answer["object"] == "list"):
            raise ApiError(
                f"You cannot expand more than {DEPTH} levels of a property. Property: {path}", param="expand"
            )
        _expand(world, answer, steps, path)
    return answer


def _expand(world: World, value: JSON, steps: list[str], path: str) -> None:
    step, rest = steps[0], steps[1:]
    if step not in value and (value.get("object"), step) in ABSENT:
        return
    if step not in value:
        included = _included(world, value, step)
        if included is None:
            raise ApiError(f"This property cannot be expanded ({path}).", param="expand")
        value[step] = included
    value[step] = _resolved(world, value[step], step, path)
    if rest:
        for inner in value[step] if isinstance(value[step], list) else [value[step]]:
            if isinstance(inner, dict):
                _expand(world, inner, rest, path)
    elif not isinstance(value[step], dict | list) and value[step] is not None:
        raise ApiError(f"This property cannot be expanded ({path}).", param="expand")


def _resolved(world: World, value: Any, step: str, path: str) -> Any:
    if isinstance(value, list):
        return [_resolved(world, item, step, path) for item in value]
    if isinstance(value, str) and step in REFERENCES:
        found = world.store.get(value)
        if found and found.get("deleted"):
            return {name: found[name] for name in ("id", "object", "deleted")}
        return found or value
    return value


def _included(world: World, value: JSON, step: str) -> JSON | None:
    """Lists that an object shows only when asked to."""
    kind = value.get("object"), step
    if kind == ("checkout.session", "line_items"):
        return includable_line_items(value)
    if kind == ("charge", "refunds"):
        refunds = list(reversed(world.store.find("refund", charge=value["id"])))
        return page(refunds[:10], f"/v1/charges/{value['id']}/refunds", len(refunds) > 10)
    if kind == ("invoice", "payments"):
        paid = world.store.find("invoice_payment", invoice=value["id"])
        return page(paid, f"/v1/invoices/{value['id']}/payments")
    if kind == ("customer", "subscriptions"):
        running = world.store.find("subscription", customer=value["id"], ended_at=None)
        return page(running[:10], f"/v1/customers/{value['id']}/subscriptions", len(running) > 10)
    return None
