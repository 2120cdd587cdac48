"""Stripe's messages as dictionaries: the fields that we read, in the shapes of versions since 2025-03-31."""

import itertools
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Message = dict[str, Any]

API_VERSION = "2026-08-26.dahlia"
_numbers = itertools.count(time.time_ns() // 1000)


def new_id(prefix: str) -> str:
    """A fresh id such as cs_test_1234."""
    return f"{prefix}_test_{next(_numbers)}"


def event(kind: str, content: Message, **envelope: Any) -> Message:
    """An event of that type about an object, which is copied as it is now."""
    return {
        "id": new_id("evt"),
        "object": "event",
        "type": kind,
        "api_version": API_VERSION,
        "created": 4102444800,
        "livemode": False,
        "data": {"object": {**content}},
        **envelope,
    }


def stamp(moment: datetime) -> int:
    """Seconds since 1970, as Stripe writes times."""
    return int(moment.timestamp())


@dataclass
class Sale:
    """A Checkout session for a package, and what happens to its payment. A method gives one step's events."""

    account: str
    credits: int = 100
    amount: int = 1000
    currency: str = "usd"
    package: str = "starter"
    payment: str | None = field(default_factory=lambda: new_id("pi"))
    session: str = field(default_factory=lambda: new_id("cs"))
    customer: str | None = None
    refunded: int = 0

    def _session(self, status: str, payment_status: str) -> Message:
        return {
            "id": self.session,
            "object": "checkout.session",
            "mode": "payment",
            "status": status,
            "payment_status": payment_status,
            "amount_total": self.amount,
            "currency": self.currency,
            "customer": self.customer,
            "payment_intent": self.payment,
            "metadata": {
                "account_id": self.account,
                "package": self.package,
                "quantity": "1",
                "credits": str(self.credits),
            },
        }

    def completed(self, payment_status: str = "paid") -> list[Message]:
        """The customer is through; payment_status: paid, unpaid (a slow method) or no_payment_required."""
        return [event("checkout.session.completed", self._session("complete", payment_status))]

    def paid_late(self) -> list[Message]:
        """A slow payment arrives."""
        return [event("checkout.session.async_payment_succeeded", self._session("complete", "paid"))]

    def failed_late(self) -> list[Message]:
        """A slow payment fails."""
        return [event("checkout.session.async_payment_failed", self._session("complete", "unpaid"))]

    def expired(self) -> list[Message]:
        """Nobody came back."""
        return [
            event("checkout.session.expired", self._session("expired", "unpaid") | {"payment_intent": None})
        ]

    def refund(self, amount: int, *statuses: str, told_by_charge: bool = True) -> list[Message]:
        """A refund that goes through the statuses (default: succeeded at once)."""
        refund = {
            "id": new_id("re"), "object": "refund", "amount": amount, "currency": self.currency,
            "payment_intent": self.payment,
        }  # fmt: skip
        told = []
        for number, status in enumerate(statuses or ("succeeded",)):
            kind = "refund.failed" if status == "failed" else "refund.updated" if number else "refund.created"
            told.append(event(kind, refund | {"status": status}))
        self.refunded += amount
        if told_by_charge:
            told.append(self.charge_refunded())
        return told

    def charge_refunded(self) -> Message:
        """What the charge says was refunded so far."""
        charge = {
            "id": new_id("ch"), "object": "charge", "payment_intent": self.payment,
            "amount_refunded": self.refunded,
        }  # fmt: skip
        return event("charge.refunded", charge)

    def dispute(
        self,
        *statuses: str,
        amount: int | None = None,
        currency: str | None = None,
        takes_money: bool = True,
    ) -> list[Message]:
        """A dispute that goes through the statuses; Stripe takes the money and returns it if it is won.

        One that is prevented may have taken none.
        """
        dispute: Message = {
            "id": new_id("du"), "object": "dispute", "payment_intent": self.payment,
            "amount": self.amount if amount is None else amount, "currency": currency or self.currency,
            "balance_transactions": [],
        }  # fmt: skip
        told = []
        taken = False
        for number, status in enumerate(statuses):
            closed = status in ("won", "lost", "warning_closed")
            kind = "closed" if closed else "updated" if number else "created"
            if takes_money and not taken and not status.startswith("warning"):
                taken = True
                dispute["balance_transactions"] = [{"amount": -1}]
                told.append(event("charge.dispute.funds_withdrawn", dispute | {"status": status}))
            told.append(event(f"charge.dispute.{kind}", dispute | {"status": status}))
            if status == "won":
                dispute["balance_transactions"] = [{"amount": -1}, {"amount": 1}]
                told.append(event("charge.dispute.funds_reinstated", dispute | {"status": status}))
        return told


@dataclass
class Plan:
    """What subscription_plans says, for the messages."""

    slug: str
    price: str
    credits: int
    unit_amount: int
    currency: str = "usd"


@dataclass
class Contract:
    """A subscription's life. Each method gives the events of one step and moves its own time on."""

    account: str
    plan: Plan
    start: datetime
    quantity: int = 1
    id: str = field(default_factory=lambda: new_id("sub"))
    customer: str = field(default_factory=lambda: new_id("cus"))
    status: str = "incomplete"
    latest_invoice: str | None = None
    extra: Message = field(default_factory=dict)
    month: timedelta = timedelta(days=30)

    @property
    def end(self) -> datetime:
        """The end of the period."""
        return self.start + self.month

    def subscription(self, kind: str, **changes: Any) -> Message:
        """customer.subscription.KIND with the state of now."""
        self.extra |= changes
        return event(
            f"customer.subscription.{kind}",
            {
                "id": self.id,
                "object": "subscription",
                "status": self.status,
                "customer": self.customer,
                "metadata": {"account_id": self.account, "plan": self.plan.slug},
                "latest_invoice": self.latest_invoice,
                "pause_collection": None,
                "items": {
                    "data": [
                        {
                            "price": {"id": self.plan.price},
                            "quantity": self.quantity,
                            "current_period_start": stamp(self.start),
                            "current_period_end": stamp(self.end),
                        }
                    ]
                },
                **self.extra,
            },
        )

    def line(self, amount: int, plan: Plan | None = None, proration: bool = False, **changes: Any) -> Message:
        """A line of an invoice."""
        return {
            "id": new_id("il"),
            "object": "line_item",
            "amount": amount,
            "currency": self.plan.currency,
            "quantity": self.quantity,
            "parent": {
                "type": "invoice_item_details" if proration else "subscription_item_details",
                "invoice_item_details": {"subscription": self.id, "proration": True} if proration else None,
                "subscription_item_details": (
                    None if proration else {"subscription": self.id, "proration": False}
                ),
            },
            "pricing": {"price_details": {"price": (plan or self.plan).price}},
            "period": {"start": stamp(self.start), "end": stamp(self.end)},
            **changes,
        }

    def invoice(self, reason: str, lines: list[Message], **changes: Any) -> Message:
        """An invoice (the object), paid unless changes say otherwise."""
        due = sum(line["amount"] for line in lines)
        return {
            "id": new_id("in"),
            "object": "invoice",
            "billing_reason": reason,
            "status": "paid",
            "attempt_count": 1,
            "amount_due": max(0, due),
            "amount_paid": max(0, due),
            "currency": self.plan.currency,
            "customer": self.customer,
            "parent": {
                "type": "subscription_details",
                "subscription_details": {
                    "subscription": self.id,
                    "metadata": {"account_id": self.account, "plan": self.plan.slug},
                },
            },
            "lines": {"object": "list", "has_more": False, "data": lines},
            **changes,
        }

    def paid(self, invoice: Message, payment: str | None = None) -> list[Message]:
        """invoice.paid and, where money moved, the payment that did it."""
        told = [event("invoice.paid", invoice)]
        if invoice["amount_paid"]:
            link = {
                "id": new_id("inpay"), "object": "invoice_payment", "invoice": invoice["id"],
                "status": "paid",
                "payment": {"type": "payment_intent", "payment_intent": payment or new_id("pi")},
            }  # fmt: skip
            told.append(event("invoice_payment.paid", link))
        return told

    def begin(self, payment: str | None = None, trial: bool = False) -> list[Message]:
        """The first period."""
        invoice = self.invoice("subscription_create", [self.line(0 if trial else self.full_price)])
        self.latest_invoice = invoice["id"]
        told = [self.subscription("created")] if not trial else []
        self.status = "trialing" if trial else "active"
        session = {
            "id": new_id("cs"), "object": "checkout.session", "mode": "subscription", "status": "complete",
            "payment_status": "paid", "customer": self.customer, "subscription": self.id,
            "metadata": {"account_id": self.account, "plan": self.plan.slug},
        }  # fmt: skip
        return [
            *told,
            *self.paid(invoice, payment),
            self.subscription("updated" if told else "created"),
            event("checkout.session.completed", session),
        ]

    @property
    def full_price(self) -> int:
        """What a whole period costs, in minor units."""
        return self.plan.unit_amount * self.quantity

    def renew(self, failures: int = 0) -> list[Message]:
        """The next period; its payment fails some times first."""
        self.start = self.end
        invoice = self.invoice("subscription_cycle", [self.line(self.full_price)])
        self.latest_invoice = invoice["id"]
        self.status = "active"
        told = [self.subscription("updated")]
        for attempt in range(1, failures + 1):
            told.append(
                event(
                    "invoice.payment_failed",
                    invoice | {"status": "open", "attempt_count": attempt, "amount_paid": 0},
                )
            )
            if attempt == 1:
                self.status = "past_due"
                told.append(self.subscription("updated"))
        told += self.paid(invoice | {"attempt_count": failures + 1})
        if failures:
            self.status = "active"
            told.append(self.subscription("updated"))
        return told

    def change(self, plan: Plan, at: datetime) -> list[Message]:
        """Another plan from a moment within the period, billed at once by prorations."""
        share = (self.end - at) / self.month
        period = {"start": stamp(at), "end": stamp(self.end)}
        lines = [
            self.line(-round(self.full_price * share), proration=True, period=period),
            self.line(round(plan.unit_amount * self.quantity * share), plan, proration=True, period=period),
        ]
        self.plan = plan
        invoice = self.invoice("subscription_update", lines)
        self.latest_invoice = invoice["id"]
        return [self.subscription("updated"), *self.paid(invoice)]

    def cancel(self) -> list[Message]:
        """The end."""
        self.status = "canceled"
        return [self.subscription("deleted", ended_at=stamp(self.end), canceled_at=stamp(self.end))]
