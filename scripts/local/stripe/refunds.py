"""Refunds: a charge's money going back, whole or in part, and failing to."""

from .errors import JSON
from .params import PAGE, Required, integer, metadata, one_of, text
from .payments import create_balance_transaction
from .routes import route
from .world import World, merged, new_id, refuse


@route("POST", "/v1/refunds", {
    "charge": text(), "payment_intent": text(), "amount": integer(1), "metadata": metadata,
    "reason": one_of("duplicate", "fraudulent", "requested_by_customer"),
})  # fmt: skip
def create(world: World, p: JSON) -> JSON:
    """Refund what is left of a charge, or a part."""
    if bool(p.get("charge")) == bool(p.get("payment_intent")):
        raise refuse("You must provide exactly one of `charge` and `payment_intent`.", "parameter_missing")
    if p.get("payment_intent"):
        intent = world.get("payment_intent", p["payment_intent"], "payment_intent")
        if intent["status"] != "succeeded":
            raise refuse(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                param="payment_intent",
            )
        charge = world.get("charge", intent["latest_charge"])
    else:
        charge = world.get("charge", p["charge"], "charge")
    if charge["status"] != "succeeded":
        raise refuse(f"Charge {charge['id']} has not succeeded, so it cannot be refunded.", param="charge")
    for dispute in world.store.find("dispute", charge=charge["id"]):
        if not dispute["is_charge_refundable"]:
            raise refuse(
                f"Charge {charge['id']} has been charged back; cannot issue a refund.", "charge_disputed"
            )
    left = charge["amount"] - charge["amount_refunded"]
    if left == 0:
        raise refuse(f"Charge {charge['id']} has already been refunded.", "charge_already_refunded")
    amount = p.get("amount", left)
    if amount > left:
        raise refuse(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            "amount_too_large", "amount",
        )  # fmt: skip
    return make_refund(world, charge, amount, p)


def make_refund(world: World, charge: JSON, amount: int, p: JSON) -> JSON:
    """Send `amount` minor units back."""
    kind = charge["payment_method_details"]["type"]
    # A bank transfer takes days; a card's refund counts as done at once.
    status = "succeeded" if kind == "card" and not p.get("pending") else "pending"
    refund: JSON = {
        "id": new_id("re_" if kind == "card" else "pyr_"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": world.now(),
        "currency": charge["currency"],
        "metadata": p.get("metadata", {}),
        "payment_intent": charge["payment_intent"],
        "reason": p.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }
    if kind == "card":
        refund["destination_details"] = {
            "type": "card", "card": {
                "reference_status": "pending", "reference_type": "acquirer_reference_number",
                "type": "refund"},
        }  # fmt: skip
    else:
        refund["destination_details"] = {"type": "us_bank_transfer", "us_bank_transfer": {
            "reference": None, "reference_status": None}}  # fmt: skip
    if status == "pending":
        refund["pending_reason"] = "processing"
    transaction = create_balance_transaction(world, refund["id"], "refund", -amount, charge["currency"])
    refund["balance_transaction"] = transaction["id"]
    refunded = charge["amount_refunded"] + amount
    world.create(refund, "refund.created")
    world.change(charge, "charge.refunded", amount_refunded=refunded, refunded=refunded == charge["amount"])
    return refund


def settle_refund(
    world: World, refund: JSON, success: bool, reason: str = "expired_or_canceled_card"
) -> JSON:
    """The bank's last word on a refund, which may come after it counted as done."""
    if refund["status"] in ("failed", "canceled") or (success and refund["status"] != "pending"):
        raise refuse(f"The refund {refund['id']} is {refund['status']}.")
    if success:
        refund.pop("pending_reason", None)
        return _tell(world, refund, status="succeeded")
    back = create_balance_transaction(
        world, refund["id"], "refund_failure", refund["amount"], refund["currency"]
    )
    refund.pop("pending_reason", None)
    _tell(world, refund, status="failed", failure_reason=reason, failure_balance_transaction=back["id"])
    world.emit("refund.failed", refund)
    _take_back(world, refund)
    return refund


def _tell(world: World, refund: JSON, **changes: str) -> JSON:
    previous = {name: refund.get(name) for name in changes}
    world.change(refund, "refund.updated", **changes)
    world.emit("charge.refund.updated", refund, previous)
    return refund


def _take_back(world: World, refund: JSON) -> None:
    """The money did not go: the charge counts as refunded that much less."""
    charge = world.get("charge", refund["charge"])
    left = charge["amount_refunded"] - refund["amount"]
    world.change(charge, "charge.updated", amount_refunded=left, refunded=left == charge["amount"])


@route("GET", "/v1/refunds/{refund}")
def retrieve(world: World, p: JSON, refund: str) -> JSON:
    """Retrieve."""
    return world.get("refund", refund)


@route("GET", "/v1/refunds", {**PAGE, "charge": text(), "payment_intent": text()})
def list_all(world: World, p: JSON) -> JSON:
    """List."""
    return world.listing("refund", "/v1/refunds", p, ["charge", "payment_intent"])


@route("POST", "/v1/refunds/{refund}", {"metadata": Required(metadata)})
def update(world: World, p: JSON, refund: str) -> JSON:
    """Update the metadata, the one thing that can change."""
    found = world.get("refund", refund)
    return world.change(found, "refund.updated", metadata=merged(found["metadata"], p["metadata"]))


@route("POST", "/v1/refunds/{refund}/cancel")
def cancel(world: World, p: JSON, refund: str) -> JSON:
    """Cancel a refund that is pending still."""
    found = world.get("refund", refund)
    if found["status"] != "pending":
        raise refuse(f"This refund cannot be canceled, as its status is {found['status']}.")
    found.pop("pending_reason", None)
    _tell(world, found, status="canceled")
    _take_back(world, found)
    return found
