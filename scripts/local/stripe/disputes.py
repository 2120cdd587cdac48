"""Disputes (chargebacks), and inquiries, which Stripe tells as disputes with a status warning_*.

inquiry:  warning_needs_response -> warning_under_review -> warning_closed, or it becomes a dispute
dispute:  needs_response (the money is withdrawn) -> under_review -> won (it comes back) or lost
either:   prevented, before it becomes a chargeback: the money is withdrawn or not
"""

from .errors import JSON
from .params import PAGE, boolean, metadata, record, text
from .payments import create_balance_transaction
from .routes import route
from .world import DAY, World, merged, new_id, refuse

FEE = 1500
EVIDENCE = [
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
]


def open_dispute(world: World, charge: JSON, amount: int | None, reason: str, inquiry: bool) -> JSON:
    """The cardholder complains. `amount` in minor units; None means all that is not refunded."""
    left = charge["amount"] - charge["amount_refunded"]
    if amount is None:
        amount = left
    if charge["status"] != "succeeded" or charge["disputed"] or not 0 < amount <= charge["amount"]:
        raise refuse(
            f"The charge {charge['id']} cannot be disputed for {amount}: it has to be successful, not "
            f"disputed "
            f"yet, and of at least that amount ({charge['amount']}, {left} of it not refunded)."
        )
    dispute = {
        "id": new_id("du_"),
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": charge["id"],
        "created": world.now(),
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": world.now() + 9 * DAY, "enhanced_eligibility": {}, "has_evidence": False,
            "past_due": False, "submission_count": 0,
        },
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {"type": "card", "card": {
            "brand": "visa", "case_type": "inquiry" if inquiry else "chargeback", "network": "visa",
            "network_reason_code": "10.4",
        }},
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }  # fmt: skip
    if not inquiry:
        _withdraw(world, dispute)
    world.create(dispute, "charge.dispute.created")
    world.change(charge, "charge.updated", disputed=True)
    if not inquiry:
        world.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def _withdraw(world: World, dispute: JSON) -> None:
    transaction = create_balance_transaction(
        world, dispute["id"], "adjustment", -dispute["amount"], dispute["currency"], FEE
    )
    dispute["balance_transactions"] = [*dispute["balance_transactions"], transaction]


def escalate(world: World, dispute: JSON) -> JSON:
    """An inquiry becomes a dispute: now the money goes."""
    if not dispute["status"].startswith("warning_") or dispute["status"] == "warning_closed":
        raise refuse(
            f"The dispute {dispute['id']} is {dispute['status']}; only an open inquiry can be escalated."
        )
    previous = {name: dispute[name] for name in ("status", "is_charge_refundable", "balance_transactions")}
    _withdraw(world, dispute)
    dispute.update(status="needs_response", is_charge_refundable=False)
    dispute["payment_method_details"]["card"]["case_type"] = "chargeback"
    world.save(dispute)
    world.emit("charge.dispute.updated", dispute, previous)
    world.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def close_dispute(world: World, dispute: JSON, won: bool) -> JSON:
    """The bank decides: won gives the money back. An inquiry just ends."""
    if dispute["status"] in ("won", "lost", "warning_closed", "prevented"):
        raise refuse(f"This dispute is already closed: {dispute['status']}.")
    if dispute["status"].startswith("warning_"):
        return world.change(dispute, "charge.dispute.closed", status="warning_closed")
    if not won:
        return world.change(dispute, "charge.dispute.closed", status="lost")
    world.change(
        dispute, "charge.dispute.closed",
        status="won", balance_transactions=[*dispute["balance_transactions"], _reinstatement(world, dispute)],
    )  # fmt: skip
    world.emit("charge.dispute.funds_reinstated", dispute)
    return dispute


def _reinstatement(world: World, dispute: JSON) -> JSON:
    return create_balance_transaction(
        world, dispute["id"], "adjustment", dispute["amount"], dispute["currency"], -FEE
    )


def prevent(world: World, dispute: JSON, refunded: bool) -> JSON:
    """No chargeback comes of it: resolved, with the money left to the cardholder, or blocked."""
    if dispute["status"] in ("won", "lost", "warning_closed", "prevented"):
        raise refuse(f"This dispute is already closed: {dispute['status']}.")
    is_withdrawn = bool(dispute["balance_transactions"])
    if refunded and not is_withdrawn:
        _withdraw(world, dispute)
    card = {**dispute["payment_method_details"]["card"], "case_type": "resolution" if refunded else "block"}
    moved = dispute["balance_transactions"]
    if is_withdrawn and not refunded:
        moved = [*moved, _reinstatement(world, dispute)]
    world.change(
        dispute, "charge.dispute.updated",
        status="prevented", balance_transactions=moved, payment_method_details={"type": "card", "card": card},
    )  # fmt: skip
    if refunded and not is_withdrawn:
        world.emit("charge.dispute.funds_withdrawn", dispute)
    elif is_withdrawn and not refunded:
        world.emit("charge.dispute.funds_reinstated", dispute)
    return dispute


@route("GET", "/v1/disputes/{dispute}")
def retrieve(world: World, p: JSON, dispute: str) -> JSON:
    """Retrieve."""
    return world.get("dispute", dispute)


@route("GET", "/v1/disputes", {**PAGE, "charge": text(), "payment_intent": text()})
def list_all(world: World, p: JSON) -> JSON:
    """List."""
    return world.listing("dispute", "/v1/disputes", p, ["charge", "payment_intent"])


@route("POST", "/v1/disputes/{dispute}", {
    "metadata": metadata, "submit": boolean, "evidence": record(dict.fromkeys(EVIDENCE, text(20000))),
})  # fmt: skip
def update(world: World, p: JSON, dispute: str) -> JSON:
    """Add evidence, and submit it unless `submit` is false."""
    found = world.get("dispute", dispute)
    changes: JSON = {"metadata": merged(found["metadata"], p.get("metadata"))}
    if p.get("evidence"):
        if found["status"] not in ("needs_response", "warning_needs_response"):
            raise refuse("This dispute does not take evidence any more.", "dispute_already_closed")
        changes["evidence"] = {**found["evidence"], **p["evidence"]}
        details = {**found["evidence_details"], "has_evidence": True}
        if p.get("submit", True):
            details["submission_count"] += 1
            changes["status"] = found["status"].replace("needs_response", "under_review")
        changes["evidence_details"] = details
    return world.change(found, "charge.dispute.updated", **changes)


@route("POST", "/v1/disputes/{dispute}/close")
def close(world: World, p: JSON, dispute: str) -> JSON:
    """Give in: the dispute is lost."""
    return close_dispute(world, world.get("dispute", dispute), won=False)
