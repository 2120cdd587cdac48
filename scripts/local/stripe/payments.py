"""Money that moves: payment methods, payment intents, charges, balance transactions."""

from typing import Any

from .errors import JSON
from .params import PAGE, text
from .routes import route
from .world import DAY, World, new_id

DECLINES = {
    "generic_decline": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "lost_card": "Your card was declined.",
}
BILLING = {"address": None, "email": None, "name": None, "phone": None, "tax_id": None}
ADDRESS = {
    "city": None, "country": "US", "line1": None, "line2": None, "postal_code": None, "state": None,
}  # fmt: skip


def create_payment_method(world: World, delayed: bool, email: str | None, customer: str | None) -> JSON:
    """The card 4242..., or for a delayed payment a US bank account."""
    kind = "us_bank_account" if delayed else "card"
    card = {
        "brand": "visa", "checks": {
            "address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US", "display_brand": "visa", "exp_month": 12, "exp_year": 2040,
        "fingerprint": "LocalStripe4242", "funding": "credit", "generated_from": None, "last4": "4242",
        "networks": {"available": ["visa"], "preferred": None}, "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True}, "wallet": None,
    }  # fmt: skip
    bank = {
        "account_holder_type": "individual", "account_type": "checking", "bank_name": "STRIPE TEST BANK",
        "financial_connections_account": None, "fingerprint": "LocalStripe6789", "last4": "6789",
        "networks": {"preferred": "ach", "supported": ["ach"]}, "routing_number": "110000000",
        "status_details": {},
    }  # fmt: skip
    return world.create(
        {
            "id": new_id("pm_"), "object": "payment_method", "allow_redisplay": "limited",
            "billing_details": {**BILLING, "email": email, "address": ADDRESS},
            "created": world.now(), "customer": customer, "livemode": False, "metadata": {}, "type": kind,
            kind: bank if delayed else card,
        },
        "payment_method.attached" if customer else None,
    )  # fmt: skip


def create_intent(
    world: World, amount: int, currency: str, customer: str | None, method: str | None, **more: Any
) -> JSON:
    """A payment intent that waits for a payment method. `amount` is in minor units."""
    intent_id = new_id("pi_")
    return world.create(
        {
            "id": intent_id,
            "object": "payment_intent",
            "amount": amount,
            "amount_capturable": 0,
            "amount_details": {"tip": {}},
            "amount_received": 0,
            "application": None,
            "application_fee_amount": None,
            "automatic_payment_methods": None,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": "automatic_async",
            "client_secret": f"{intent_id}_secret_{new_id('', 25)}",
            "confirmation_method": "automatic",
            "created": world.now(),
            "currency": currency,
            "customer": customer,
            "description": None,
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": {},
            "next_action": None,
            "on_behalf_of": None,
            "payment_method": method,
            "payment_method_configuration_details": None,
            "payment_method_options": {},
            "payment_method_types": ["card"],
            "processing": None,
            "receipt_email": None,
            "review": None,
            "setup_future_usage": None,
            "shipping": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": None,
            "status": "requires_payment_method",
            "transfer_data": None,
            "transfer_group": None,
            **more,
        },
        "payment_intent.created",
    )


def create_balance_transaction(
    world: World, source: str, kind: str, amount: int, currency: str, fee: int = 0
) -> JSON:
    """What a charge, refund or dispute did to the account's balance; signed minor units."""
    return world.create(
        {
            "id": new_id("txn_"), "object": "balance_transaction", "amount": amount,
            "available_on": world.now() + 2 * DAY, "balance_type": "payments", "created": world.now(),
            "currency": currency, "description": None, "exchange_rate": None, "fee": fee,
            "fee_details": [{
                "amount": fee, "application": None, "currency": currency,
                "description": "Stripe processing fees", "type": "stripe_fee",
            }] if fee else [],
            "net": amount - fee, "reporting_category": {"adjustment": "dispute"}.get(kind, kind),
            "source": source, "status": "pending", "type": kind,
        }
    )  # fmt: skip


def _charge(world: World, intent: JSON, method: JSON, status: str) -> JSON:
    """A charge of the intent's whole amount, not yet told of."""
    kind = method["type"]
    details: JSON
    if kind == "card":
        card = method["card"]
        details = {
            name: card[name]
            for name in ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding",
            "last4")
        } | {
            "amount_authorized": intent["amount"], "authorization_code": "123456", "installments": None,
            "mandate": None, "network": "visa", "network_token": {"used": False},
            "network_transaction_id": "104102108109771", "regulated_status": "unregulated",
            "three_d_secure": None, "wallet": None,
        }  # fmt: skip
    else:
        details = {
            name: method[kind][name]
            for name in (
                "account_holder_type", "account_type", "bank_name", "fingerprint", "last4", "routing_number")
        } | {"payment_reference": None}  # fmt: skip
    charge_id = new_id("ch_" if kind == "card" else "py_")
    return {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0 if status == "failed" else intent["amount"],
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "LOCAL STRIPE",
        "captured": status != "failed",
        "created": world.now(),
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": intent["metadata"],
        "on_behalf_of": None,
        "outcome": {
            "advice_code": None, "network_advice_code": None, "network_decline_code": None,
            "network_status": "approved_by_network", "reason": None, "risk_level": "normal", "risk_score": 20,
            "seller_message": "Payment complete.", "type": "authorized",
        },
        "paid": status != "failed",
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"type": kind, kind: details},
        "radar_options": {},
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": f"{world.base_url}/receipts/{charge_id}",
        "refunded": False,
        "review": None,
        "shipping": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": status,
        "transfer_data": None,
        "transfer_group": None,
    }  # fmt: skip


def fee_of(amount: int) -> int:
    """What Stripe keeps of a charge."""
    return min(amount, round(amount * 0.029) + 30)


def _settle(world: World, charge: JSON) -> None:
    """Book it, which with asynchronous capture comes after the payment was told."""
    transaction = create_balance_transaction(
        world, charge["id"], "charge", charge["amount"], charge["currency"], fee_of(charge["amount"])
    )
    world.change(charge, "charge.updated", balance_transaction=transaction["id"])


def succeed(world: World, intent: JSON, method: JSON) -> JSON:
    """Take the money at once. Returns the charge."""
    charge = world.create(_charge(world, intent, method, "succeeded"), "charge.succeeded")
    _intent_succeeded(world, intent, charge)
    _settle(world, charge)
    return charge


def _intent_succeeded(world: World, intent: JSON, charge: JSON) -> None:
    intent.update(
        status="succeeded", amount_received=intent["amount"], latest_charge=charge["id"],
        payment_method=charge["payment_method"], last_payment_error=None, processing=None,
    )  # fmt: skip
    world.create(intent, "payment_intent.succeeded")


def begin(world: World, intent: JSON, method: JSON) -> JSON:
    """Start a delayed payment: the intent is processing, the charge pending. Returns the charge."""
    charge = world.create(_charge(world, intent, method, "pending"), "charge.pending")
    intent.update(status="processing", latest_charge=charge["id"], payment_method=method["id"])
    world.create(intent, "payment_intent.processing")
    return charge


def finish(world: World, intent: JSON, success: bool) -> JSON:
    """End a delayed payment. Returns the charge."""
    charge = world.get("charge", intent["latest_charge"])
    if success:
        world.change(charge, None, status="succeeded")
        world.emit("charge.succeeded", charge)
        _intent_succeeded(world, intent, charge)
        _settle(world, charge)
        return charge
    charge.update(
        status="failed", paid=False, failure_code="insufficient_funds", captured=False, amount_captured=0,
        failure_message="The customer's account has insufficient funds to cover this payment.",
    )  # fmt: skip
    world.create(charge, "charge.failed")
    error = {
        "charge": charge["id"], "code": "payment_intent_payment_attempt_failed",
        "type": "invalid_request_error",
        "doc_url": "https://docs.stripe.com/error-codes/payment-intent-payment-attempt-failed",
        "message": "The payment failed.",
    }  # fmt: skip
    intent.update(
        status="requires_payment_method", last_payment_error=error, payment_method=None, processing=None
    )
    world.create(intent, "payment_intent.payment_failed")
    return charge


def decline(world: World, intent: JSON, method: JSON, reason: str = "generic_decline") -> JSON:
    """The bank says no. Returns the error, as a card_error tells it."""
    charge = _charge(world, intent, method, "failed")
    message = DECLINES[reason]
    code = reason if reason in ("expired_card",) else "card_declined"
    charge.update(failure_code=code, failure_message=message)
    charge["outcome"].update(
        network_status="declined_by_network", reason=reason, seller_message="The bank declined the payment.",
        type="issuer_declined", network_decline_code="01",
    )  # fmt: skip
    world.create(charge, "charge.failed")
    error = {
        "charge": charge["id"], "code": code, "decline_code": reason, "message": message,
        "type": "card_error",
        "doc_url": f"https://docs.stripe.com/error-codes/{code.replace('_', '-')}",
    }  # fmt: skip
    intent.update(
        status="requires_payment_method", latest_charge=charge["id"], last_payment_error=error,
        payment_method=None,
    )  # fmt: skip
    world.create(intent, "payment_intent.payment_failed")
    return error


def declined_next(world: World, customer: str | None) -> str | None:
    """Whether a control said that the next charge fails, and why; counts it."""
    plan = world.declines
    if not plan or plan["times"] < 1 or (plan["customer"] and plan["customer"] != customer):
        return None
    plan["times"] -= 1
    return str(plan["reason"])


# -- endpoints -------------------------------------------------------------------------------------


@route("GET", "/v1/payment_intents/{intent}")
def intent_retrieve(world: World, p: JSON, intent: str) -> JSON:
    """Retrieve."""
    return world.get("payment_intent", intent)


@route("GET", "/v1/payment_intents", {**PAGE, "customer": text()})
def intent_list(world: World, p: JSON) -> JSON:
    """List."""
    return world.listing("payment_intent", "/v1/payment_intents", p, ["customer"])


@route("GET", "/v1/charges/{charge}")
def charge_retrieve(world: World, p: JSON, charge: str) -> JSON:
    """Retrieve."""
    return world.get("charge", charge)


@route("GET", "/v1/charges", {**PAGE, "customer": text(), "payment_intent": text()})
def charge_list(world: World, p: JSON) -> JSON:
    """List."""
    return world.listing("charge", "/v1/charges", p, ["customer", "payment_intent"])


@route("GET", "/v1/payment_methods/{payment_method}")
def payment_method_retrieve(world: World, p: JSON, payment_method: str) -> JSON:
    """Retrieve."""
    return world.get("payment_method", payment_method)


@route("GET", "/v1/balance_transactions/{transaction}")
def balance_transaction_retrieve(world: World, p: JSON, transaction: str) -> JSON:
    """Retrieve."""
    return world.get("balance_transaction", transaction)
