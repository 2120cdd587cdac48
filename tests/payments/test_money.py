"""What accounting needs of each payment: price, tax, what Stripe took; whichever message is first."""

import json
from datetime import UTC, datetime, timedelta
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
        "customer": sale.customer,
        "amount_refunded": 0, "receipt_url": "https://example.com/r", "balance_transaction": None,
        "failure_balance_transaction": None, **changes,
    }  # fmt: skip


def customer(till: Till, account: str, **order: Any) -> Sale:
    """A sale to a customer that checkout has made."""
    made = new_id("cus")
    till.ledger.as_service("link_stripe_customer", account_id=account, customer_id=made)
    return Sale(account, customer=made, **order)


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


# -- what lots cost ------------------------------------------------------------------------------


def costs(till: Till, account: str) -> list[tuple[Any, ...]]:
    """Credits, cost basis and currency of each lot, oldest first."""
    rows = till.ledger.rows(
        "select amount, cost_basis, currency from credits.credit_grants where account_id = %s order by id",
        account,
    )
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize(
    ("details", "cost", "currency"), [({"amount_tax": 190}, 1000, "eur"), (None, None, None)]
)
def test_a_packages_lot_cost_its_price(
    till: Till, details: Message | None, cost: int | None, currency: str | None
) -> None:
    _, account = till.buyer()
    (told,) = Sale(account, amount=1190, currency="eur").completed()
    told["data"]["object"]["total_details"] = details
    till.tell([told])
    assert costs(till, account) == [(100, cost, currency)]


def test_the_lots_of_an_invoice_cost_what_their_lines_say(till: Till) -> None:
    """To the last cent, whatever else the invoice bills, and with taxes in the prices."""
    _, account = till.buyer()
    small, big = till.plan(100, 1000, rollover="1 month", rollover_cap=33), till.plan(500, 2000)
    contract = Contract(account, small, datetime.now(UTC))
    other = contract.line(300) | {"pricing": {"price_details": {"price": "price_other"}}}
    off = [{"amount": 500, "discount": "di_1"}]
    lines = [contract.line(1000), other, contract.line(2000, big, discount_amounts=off)]
    invoice = contract.invoice("subscription_create", lines, total=2800, total_excluding_tax=2353)
    till.tell(contract.paid(invoice))
    # 840.4 of 2353 for the first, 1260.5 for the last; what may roll over is a lot of its own.
    found = costs(till, account)
    assert sorted(amount for amount, _, _ in found) == [33, 67, 500]
    by_amount = {amount: cost for amount, cost, _ in found}
    assert (by_amount[33], by_amount[33] + by_amount[67], by_amount[500]) == (277, 840, 1261)
    assert {currency for _, _, currency in found} == {"usd"}


@pytest.mark.parametrize(
    ("total", "cost"), [({"total": 1000, "total_excluding_tax": 1000}, True), ({}, False)]
)
def test_the_months_of_a_year_cost_its_price(till: Till, total: Message, cost: bool) -> None:
    """A thousand cents over twelve months, and what an upgrade adds from then on."""
    user, account = till.buyer()
    plan = till.plan(1205, 1000, interval="year", monthly_allotment=True)
    more = till.plan(2410, 2000, interval="year", monthly_allotment=True)
    # From the first of a month, so that the year has twelve of them.
    now = till.ledger.now()
    start = till.ledger.pass_time((now.replace(day=1) + timedelta(days=32)).replace(day=1) - now)
    year = start.replace(year=start.year + 1) - start
    contract = Contract(account, plan, start, month=year)
    invoice = contract.invoice("subscription_create", [contract.line(1000)], **total)
    till.tell([contract.subscription("created"), *contract.paid(invoice)])
    assert costs(till, account) == [(100, 83 if cost else None, "usd" if cost else None)]
    at = start + year / 2

    def live_until(moment: datetime) -> None:
        while till.ledger.now() < moment:
            till.ledger.pass_time(min(timedelta(days=15), moment - till.ledger.now()))
            till.ledger.rows("select credits.sweep_allotments()")

    live_until(at)
    told = contract.change(more, at)
    bill = next(message for message in told if message["type"] == "invoice.paid")["data"]["object"]
    assert bill["amount_paid"] == 500
    bill |= {"total": 500, "total_excluding_tax": 500} if cost else {}
    till.tell(told)
    live_until(start + year - timedelta(days=1))
    found = costs(till, account)
    if cost:
        assert sum(row[1] for row in found) == 1500
        assert all(row[1] > 0 for row in found)
    else:
        assert {row[1:] for row in found} == {(None, None)}
    assert till.ledger.broken(user) == []


def test_a_trial_costs_nothing_and_a_downgrade_no_less(till: Till) -> None:
    user, account = till.buyer()
    small, big = till.plan(100, 1000, trial_credits=7), till.plan(500, 5000)
    contract = Contract(account, big, till.ledger.now())
    trial = contract.invoice("subscription_create", [contract.line(0, small)], total=0, total_excluding_tax=0)
    till.tell(contract.paid(trial))
    paid = contract.invoice("subscription_cycle", [contract.line(5000)], total=5000, total_excluding_tax=5000)
    till.tell(contract.paid(paid))
    told = contract.change(small, contract.start + contract.month / 2)
    next(m for m in told if m["type"] == "invoice.paid")["data"]["object"].update(
        total=-2000, total_excluding_tax=-2000
    )
    till.tell(told)
    assert [row[:2] for row in costs(till, account)] == [(7, 0), (500, 5000)]
    assert till.balance(user) == 7 + 300
    bought = till.purchase(
        invoice_id=next(m for m in told if m["type"] == "invoice.paid")["data"]["object"]["id"]
    )
    assert (bought["amount"], bought["net_amount"], bought["tax_amount"]) == (0, -2000, 0)


# -- what Stripe took ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_fee_comes_whichever_message_is_first(till: Till, order: tuple[int, ...]) -> None:
    user, account = till.buyer()
    sale = customer(till, account)
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
    assert till.tell([event("charge.updated", charge(sale, balance_transaction=booked["id"]))]) == ["ignored"]
    assert booked["id"] not in wanted(till)


def test_an_invoices_payment_is_asked_about(till: Till) -> None:
    _, account = till.buyer()
    contract = Contract(account, till.plan(100, 1000), datetime.now(UTC))
    payment, booked = new_id("pi"), transaction(1000, 59)
    named = charge(customer(till, account, payment=payment), balance_transaction=booked["id"])
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
    said = till.ledger.value(
        "select metadata from public.credit_transactions where account_id = %s and kind = 'clawback'", account
    )
    put = (
        "update public.credit_transactions set metadata = %s::jsonb "
        "where account_id = %s and kind = 'clawback'"
    )
    till.ledger.rows("alter table public.credit_transactions disable trigger user")
    try:
        till.ledger.rows(put, "{}", account)
        till.tell([failed])
        till.ledger.rows(put, json.dumps(said), account)
    finally:
        till.ledger.rows("alter table public.credit_transactions enable trigger user")
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


@pytest.mark.parametrize(
    "odd",
    [{"currency": "usdc"}, {"currency": "USD"}, {"fee": None}, {"amount": -(10**30)}, {"created": "soon"}],
)
def test_figures_that_cannot_be_stored_stop_no_dispute(till: Till, odd: Message) -> None:
    user, account = till.buyer()
    sale = Sale(account, credits=20)
    booked = transaction(-sale.amount, 1500) | odd
    disputed = sale.dispute("needs_response")
    disputed[-1]["data"]["object"]["balance_transactions"] = [booked]
    assert set(till.tell([*sale.completed(), *disputed])) == {"applied"}
    assert till.balance(user) == 0
    assert till.ledger.account(user)["frozen_by"] == "dispute"
    assert booked["id"] in wanted(till)
    till.ledger.as_service("dismiss_stripe_object", object_id=booked["id"], why="not in our currency")
    assert booked["id"] not in wanted(till)
