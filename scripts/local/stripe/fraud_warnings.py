"""Early fraud warnings: a card's issuer believes that a payment is fraudulent; nobody has disputed it yet."""

from .errors import JSON
from .params import PAGE, text
from .routes import route
from .world import World, new_id, refuse

FRAUD_TYPES = (
    "card_never_received",
    "fraudulent_card_application",
    "made_with_counterfeit_card",
    "made_with_lost_card",
    "made_with_stolen_card",
    "misc",
    "unauthorized_use_of_card",
)


def warn(world: World, charge: JSON, fraud_type: str) -> JSON:
    """The issuer warns of a charge."""
    if charge["status"] != "succeeded" or fraud_type not in FRAUD_TYPES:
        raise refuse(f"Only a successful charge is warned of, as one of {', '.join(FRAUD_TYPES)}.")
    warning = {
        "id": new_id("issfr_"),
        "object": "radar.early_fraud_warning",
        "actionable": not charge["disputed"] and not charge["refunded"],
        "charge": charge["id"],
        "created": world.now(),
        "fraud_type": fraud_type,
        "livemode": False,
        "payment_intent": charge["payment_intent"],
    }
    world.create(warning, "radar.early_fraud_warning.created")
    return warning


@route("GET", "/v1/radar/early_fraud_warnings/{warning}")
def retrieve(world: World, p: JSON, warning: str) -> JSON:
    """Retrieve."""
    return world.get("radar.early_fraud_warning", warning)


@route("GET", "/v1/radar/early_fraud_warnings", {**PAGE, "charge": text(), "payment_intent": text()})
def list_all(world: World, p: JSON) -> JSON:
    """List."""
    return world.listing(
        "radar.early_fraud_warning", "/v1/radar/early_fraud_warnings", p, ["charge", "payment_intent"]
    )
