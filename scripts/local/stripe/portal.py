"""The billing portal: a session is a link to a page on which a customer cancels, resumes or switches."""

from .customers import live_customer
from .errors import JSON
from .params import Required, one_of, record, text, url
from .routes import route
from .subscriptions import ENDED
from .world import World, new_id, refuse

OF_SUBSCRIPTION = record({"subscription": Required(text())})
FLOW = record({
    "type": Required(one_of("payment_method_update", "subscription_cancel", "subscription_update")),
    "subscription_cancel": OF_SUBSCRIPTION, "subscription_update": OF_SUBSCRIPTION,
    "after_completion": record({
        "type": Required(one_of("portal_homepage", "redirect")),
        "redirect": record({"return_url": Required(url)}),
    }),
})  # fmt: skip


def _flow(world: World, customer: str, given: JSON) -> JSON:
    """The flow as the session shows it. Raises ApiError for one that this customer cannot go through."""
    kind, after = given["type"], given.get("after_completion", {"type": "portal_homepage"})
    details: JSON = {"subscription_cancel": None, "subscription_update": None}
    if kind in details:
        if kind not in given:
            missing = f"flow_data[{kind}]"
            raise refuse(f"Missing required param: {missing}.", "parameter_missing", missing)
        where = f"flow_data[{kind}][subscription]"
        subscription = world.get("subscription", given[kind]["subscription"], where)
        if subscription["customer"] != customer:
            raise refuse("The subscription is not one of this customer's.", param=where)
        if subscription["status"] in ENDED or (kind == "subscription_cancel" and subscription["cancel_at"]):
            raise refuse("The subscription is canceled already, or set to be.", param=where)
        details[kind] = {"subscription": subscription["id"]}
        if kind == "subscription_cancel":
            details[kind]["retention"] = None
    return {
        "type": kind, **details, "customer_update": None, "subscription_update_confirm": None,
        "after_completion": {
            "type": after["type"], "redirect": after.get("redirect"), "hosted_confirmation": None},
    }  # fmt: skip


@route("POST", "/v1/billing_portal/sessions", {
    "customer": Required(text()), "return_url": url, "configuration": text(), "locale": text(10),
    "flow_data": FLOW,
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
            "created": world.now(), "customer": customer["id"], "customer_account": None,
            "flow": _flow(world, customer["id"], p["flow_data"]) if "flow_data" in p else None,
            "livemode": False, "locale": p.get("locale"), "on_behalf_of": None,
            "return_url": p.get("return_url"), "url": f"{world.base_url}/p/session/{secret}",
            "_secret": secret,
        },
        "billing_portal.session.created",
    )  # fmt: skip
