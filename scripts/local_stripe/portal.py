"""The billing portal: a session is a link to a page on which a customer cancels, resumes or switches."""

from .customers import live_customer
from .errors import JSON
from .params import Required, text, url
from .routes import route
from .world import World, new_id


@route("POST", "/v1/billing_portal/sessions", {
    "customer": Required(text()), "return_url": url, "configuration": text(), "locale": text(10),
})  # fmt: skip
def create(world: World, p: JSON) -> JSON:
    """Create."""
    customer = live_customer(world, p["customer"], "customer")
    secret = new_id("", 40)
    configuration = world.store.setting("portal_configuration") or new_id("bpc_")
    world.store.set("portal_configuration", configuration)
    return world.create(
        {
            "id": new_id("bps_"), "object": "billing_portal.session",
            "configuration": p.get("configuration") or configuration,
            "created": world.now(), "customer": customer["id"], "customer_account": None, "flow": None,
            "livemode": False, "locale": p.get("locale"), "on_behalf_of": None,
            "return_url": p.get("return_url"), "url": f"{world.base_url}/p/session/{secret}",
            "_secret": secret,
        },
        "billing_portal.session.created",
    )  # fmt: skip
