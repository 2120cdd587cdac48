"""What accounting needs of each payment: price, tax, what Stripe took; whichever message is first."""

import json
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from psycopg import sql

from tests.support.messages import Contract, Message, Sale, event, new_id
from tests.support.till import Till

BOOKED = 4102444800


def transaction(amount: int, fee: int, **changes: Any) -> Message:
    """A balance transaction."""
    return {
        "id": new_id("txn"), "object": "balance_transaction", "amount": amount, "fee": fee,
        "net": amount - fee, "currency": "usd", "exchange_rate": None, "created": BOOKED, **changes,
    }  # fmt: skip


def charge(sale: Sale, **changes: Any) -> Message:
    """The charge of a sale, before Stripe has booked it."""
    return {
        "id": new_id("ch"), "object": "charge", "payment_intent": sale.payment, "status": "succeeded",
        "amount_refunded": 0, "receipt_url": "https://example.com/r", "balance_transaction": None,
        "failure_balance_transaction": None, **changes,
    }  # fmt: skip


def ask(till: Till, item: Message) -> str:
    """What becomes of an object that reconciliation has asked for."""
    answer = till.ledger.ask(
        "service_role",
        json.dumps({"role": "service_role", "exp": BOOKED * 2}),
        sql.SQL("select public.ingest_stripe_object({}::jsonb)").format(json.dumps(item)),
    )
    return str(answer["status"])


def money(till: Till, payment: str | None) -> list[tuple[Any, ...]]:
    """What is known of a payment's balance transactions."""
    rows = till.ledger.rows(
        "select movement::text, amount, fee, currency, exchange_rate, booked_at "
        "from credits.stripe_balance_transactions where payment_intent_id = %s order by movement, amount",
        payment,
    )
    return [tuple(row.values()) for row in rows]


def wanted(till: Till) -> list[str]:
    """The balance transactions that reconciliation would ask for."""
    found: list[str] = []
    while ids := till.ledger.as_service(
        "stripe_balance_transactions_to_ask", after=found[-1] if found else ""
    ):
        found += ids
    return found


# -- price and tax ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("details", "net", "tax"),
    [
        ({"amount_tax": 190, "amount_discount": 0}, 1000, 190),
        ({"amount_tax": 0}, 1190, 0),
        (None, None, None),
    ],
)
def test_a_sessions_price_and_tax(
    till: Till, details: Message | None, net: int | None, tax: int | None
) -> None:
    _, account = till.buyer()
    sale = Sale(account, amount=1190)
    (told,) = sale.completed()
    told["data"]["object"]["total_details"] = details
    assert till.tell([told]) == ["applied"]
    bought = till.purchase(checkout_session_id=sale.session)
    assert (bought["amount"], bought["net_amount"], bought["tax_amount"]) == (1190, net, tax)


def test_the_price_and_tax_of_a_late_payment_are_those_of_the_payment(till: Till) -> None:
    _, account = till.buyer()
    sale = Sale(account, amount=1190)
    (open_,), (paid,) = sale.completed("unpaid"), sale.paid_late()
    for told, tax in ((open_, 0), (paid, 190)):
        told["data"]["object"]["total_details"] = {"amount_tax": tax}
    till.tell([open_, paid])
    bought = till.purchase(checkout_session_id=sale.session)
    assert (bought["net_amount"], bought["tax_amount"]) == (1000, 190)


def test_an_invoices_price_and_tax(till: Till) -> None:
    """What the customer's balance in Stripe pays lowers what is paid, not the price."""
    _, account = till.buyer()
    contract = Contract(account, till.plan(100, 1000), datetime.now(UTC))
    invoice = contract.invoice(
        "subscription_create", [contract.line(1000)],
        amount_paid=690, amount_due=690, total=1190, total_excluding_tax=1000,
    )  # fmt: skip
    assert till.tell(contract.paid(invoice)) == ["applied", "applied"]
    bought = till.purchase(invoice_id=invoice["id"])
    assert (bought["amount"], bought["net_amount"], bought["tax_amount"]) == (690, 1000, 190)


# -- what Stripe took ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_fee_comes_whichever_message_is_first(till: Till, order: tuple[int, ...]) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    booked = transaction(1000, 59)
    first = charge(sale)
    whole = [
        lambda: till.tell([event("charge.succeeded", first)]),
        lambda: till.tell([event("charge.updated", first | {"balance_transaction": booked["id"]})]),
        lambda: till.tell(sale.completed()),
        lambda: [ask(till, booked)],
    ]
    told = [whole[number]()[0] for number in order]
    # A balance transaction that nothing has named yet may be any business of this Stripe account's.
    early = order.index(3) < order.index(1)
    assert told[order.index(3)] == ("ignored" if early else "changed")
    if early:
        assert (money(till, sale.payment)[0][1:3], booked["id"] in wanted(till)) == ((None, None), True)
        assert ask(till, booked) == "changed"
    assert money(till, sale.payment) == [
        ("payment", 1000, 59, "usd", None, datetime.fromtimestamp(BOOKED, UTC))
    ]
    assert booked["id"] not in wanted(till)
    assert ask(till, booked) == "unchanged"
    assert till.tell([event("charge.updated", first | {"balance_transaction": booked["id"]})]) == ["applied"]
    assert till.purchase(checkout_session_id=sale.session)["receipt_url"] == "https://example.com/r"
    assert till.balance(user) == 100


def test_a_charge_that_reconciliation_reads_brings_its_fee_along(till: Till) -> None:
    """In another currency than the payment's, too."""
    _, account = till.buyer()
    sale = Sale(account, currency="eur")
    till.tell(sale.completed())
    booked = transaction(1085, 63, exchange_rate=1.085)
    assert ask(till, charge(sale, balance_transaction=booked)) == "changed"
    ((_, amount, fee, currency, rate, _),) = money(till, sale.payment)
    assert (amount, fee, currency, float(rate)) == (1085, 63, "usd", 1.085)
    assert ask(till, charge(sale, balance_transaction=booked)) == "unchanged"


def test_nobody_is_asked_about_the_payments_of_others(till: Till) -> None:
    booked = transaction(500, 45)
    sale = Sale("nobody")
    assert till.tell([event("charge.updated", charge(sale, balance_transaction=booked["id"]))]) == ["applied"]
    assert booked["id"] not in wanted(till)


def test_an_invoices_payment_is_asked_about(till: Till) -> None:
    _, account = till.buyer()
    contract = Contract(account, till.plan(100, 1000), datetime.now(UTC))
    payment, booked = new_id("pi"), transaction(1000, 59)
    named = charge(Sale(account, payment=payment), balance_transaction=booked["id"])
    till.tell([event("charge.updated", named), *contract.begin(payment)])
    assert booked["id"] in wanted(till)


def test_refunds_and_disputes_carry_their_own(till: Till) -> None:
    _, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    back, again = transaction(-400, 0), transaction(400, 0)
    refund = {
        "id": new_id("re"), "object": "refund", "amount": 400, "status": "succeeded",
        "payment_intent": sale.payment, "balance_transaction": back["id"],
    }  # fmt: skip
    told = [
        event("refund.created", refund),
        event("refund.failed", refund | {"status": "failed", "failure_balance_transaction": again["id"]}),
    ]
    assert till.tell(told) == ["applied", "applied"]
    assert {back["id"], again["id"]} <= set(wanted(till))
    assert [ask(till, back), ask(till, again)] == ["changed", "changed"]
    gone, won = transaction(-1000, 1500), transaction(1000, 0)
    disputes = sale.dispute("needs_response", "won")
    for message in disputes:
        if message["data"]["object"]["balance_transactions"]:
            moved = len(message["data"]["object"]["balance_transactions"])
            message["data"]["object"]["balance_transactions"] = [gone, won][:moved]
    assert set(till.tell(disputes)) == {"applied"}
    assert [row[:3] for row in money(till, sale.payment)] == [
        ("dispute", -1000, 1500),
        ("dispute", 1000, 0),
        ("refund", -400, 0),
        ("refund_failure", 400, 0),
    ]
    assert not {gone["id"], won["id"], back["id"], again["id"]} & set(wanted(till))


# -- words that Stripe may invent ------------------------------------------------------------------


def test_a_refund_in_an_unknown_state_counts_until_another_is_told(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    unknown, failed = sale.refund(500, "in_transit", "failed", told_by_charge=False)
    assert till.tell([unknown]) == ["applied"]
    assert till.balance(user) == 50
    rows = till.ledger.rows(
        "select status::text, unknown_status from credits.stripe_refunds where payment_intent_id = %s",
        sale.payment,
    )
    assert rows == [{"status": "unknown", "unknown_status": "in_transit"}]
    assert till.tell([failed, unknown | {"id": new_id("evt")}]) == ["applied", "applied"]
    assert till.balance(user) == 100
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize(("takes_money", "left"), [(True, 0), (False, 100)])
def test_a_dispute_in_an_unknown_state_takes_what_stripe_took(
    till: Till, takes_money: bool, left: int
) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    told = sale.dispute("in_arbitration", takes_money=takes_money)
    assert set(till.tell(told)) == {"applied"}
    assert (till.balance(user), till.ledger.account(user)["frozen_by"]) == (left, None)
    # The known states go on from there, and what is known already stays.
    dispute = told[-1]["data"]["object"]
    won = event("charge.dispute.closed", dispute | {"status": "won"})
    again = [message | {"id": new_id("evt")} for message in told]
    assert till.tell([won, *again]) == ["applied"] * (1 + len(told))
    assert till.balance(user) == 100
    assert till.ledger.broken(user) == []


# -- causes ----------------------------------------------------------------------------------------


def test_causes_are_columns(till: Till) -> None:
    """Nothing of what a refund takes and gives back hangs on what the ledger's metadata says."""
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    pending, failed = sale.refund(500, "pending", "failed", told_by_charge=False)
    till.tell([pending])
    bought = till.purchase(checkout_session_id=sale.session)
    rows = till.ledger.rows(
        "select c.cause::text, c.purchase_id, t.amount from credits.clawbacks as c "
        "inner join public.credit_transactions as t "
        "on c.account_id = t.account_id and c.transaction_id = t.id where c.account_id = %s",
        account,
    )
    assert rows == [{"cause": "money_back", "purchase_id": bought["id"], "amount": -50}]
    set_metadata = (
        "update public.credit_transactions set metadata = %s::jsonb "
        "where account_id = %s and kind = 'clawback'"
    )
    said = till.ledger.value(
        "select metadata from public.credit_transactions where account_id = %s and kind = 'clawback'", account
    )
    till.ledger.rows("alter table public.credit_transactions disable trigger append_only")
    try:
        till.ledger.rows(set_metadata, "{}", account)
        till.tell([failed])
        till.ledger.rows(set_metadata, json.dumps(said), account)
    finally:
        till.ledger.rows("alter table public.credit_transactions enable trigger append_only")
    assert till.balance(user) == 100
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ("credits_granted = credits_granted + 1", "credits_granted = credits_granted - 1"),
        ("credits_clawed_back = credits_clawed_back + 1", "credits_clawed_back = credits_clawed_back - 1"),
    ],
)
def test_a_purchases_figures_are_held_against_the_ledger(till: Till, change: str, back: str) -> None:
    user, account = till.buyer()
    till.tell([*(sale := Sale(account)).completed(), *sale.refund(400)])
    assert till.ledger.broken(user) == []
    till.ledger.rows(f"update public.purchases set {change} where account_id = %s", account)
    assert till.ledger.broken(user) == [
        "what a purchase has brought and lost is the sum of its grants and clawbacks"
    ]
    till.ledger.rows(f"update public.purchases set {back} where account_id = %s", account)


def test_users_see_price_and_tax_and_not_what_stripe_took(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    seen = till.ledger.read_as_user(user, "select jsonb_agg(p) from public.purchases as p")
    assert [row["amount"] for row in seen] == [1000]
    assert {"net_amount", "tax_amount"} <= seen[0].keys()
    assert not [name for name in seen[0] if "fee" in name or "balance" in name]
