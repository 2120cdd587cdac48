"""Customers."""

from .errors import JSON
from .params import PAGE, email, metadata, text
from .routes import route
from .world import World, merged, new_id

FIELDS = {
    "email": email, "name": text(256), "description": text(), "phone": text(20), "metadata": metadata,
}  # fmt: skip


def create_customer(world: World, p: JSON) -> JSON:
    """A new customer, from the API or from a checkout page."""
    return world.create(
        {
            "id": new_id("cus_", 14),
            "object": "customer",
            "address": None,
            "balance": 0,
            "created": world.now(),
            "currency": None,
            "default_source": None,
            "delinquent": False,
            "description": p.get("description"),
            "discount": None,
            "email": p.get("email"),
            "invoice_prefix": new_id("", 8).upper(),
            "invoice_settings": {
                "custom_fields": None, "default_payment_method": None, "footer": None,
                "rendering_options": None,
            },
            "livemode": False,
            "metadata": p.get("metadata", {}),
            "name": p.get("name"),
            "next_invoice_sequence": 1,
            "phone": p.get("phone"),
            "preferred_locales": [],
            "shipping": None,
            "tax_exempt": "none",
            "test_clock": None,
        },
        "customer.created",
    )  # fmt: skip


@route("POST", "/v1/customers", FIELDS)
def create(world: World, p: JSON) -> JSON:
    """Create."""
    return create_customer(world, p)


@route("GET", "/v1/customers/{customer}")
def retrieve(world: World, p: JSON, customer: str) -> JSON:
    """Retrieve; a deleted one answers as deleted."""
    found = world.store.get(customer)
    if found and found.get("deleted"):
        return {name: found[name] for name in ("id", "object", "deleted")}
    return live_customer(world, customer, "id")


def live_customer(world: World, customer: str, param: str) -> JSON:
    """A customer that is not deleted. Raises ApiError resource_missing."""
    found = world.get("customer", customer, param)
    return world.get("customer", "", param) if found.get("deleted") else found


@route("GET", "/v1/customers", {**PAGE, "email": text()})
def list_all(world: World, p: JSON) -> JSON:
    """List; deleted ones are left out."""
    return world.listing("customer", "/v1/customers", p, ["email"], deleted=None)


@route("POST", "/v1/customers/{customer}", FIELDS)
def update(world: World, p: JSON, customer: str) -> JSON:
    """Update."""
    found = live_customer(world, customer, "id")
    changes: JSON = {name: p[name] for name in ("email", "name", "description", "phone") if name in p}
    changes["metadata"] = merged(found["metadata"], p.get("metadata"))
    return world.change(found, "customer.updated", **changes)


@route("DELETE", "/v1/customers/{customer}")
def delete(world: World, p: JSON, customer: str) -> JSON:
    """Delete: subscriptions are canceled at once, the id stays known as deleted."""
    from .subscriptions import cancel_now

    found = live_customer(world, customer, "id")
    for subscription in world.store.find("subscription", customer=customer):
        if subscription["status"] not in ("canceled", "incomplete_expired"):
            cancel_now(world, subscription)
    world.emit("customer.deleted", found)
    world.save({**found, "deleted": True})
    return {"id": customer, "object": "customer", "deleted": True}
