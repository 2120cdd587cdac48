"""Where one Stripe account serves several apps: what is another app's has no effect, and fills no table."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.support.ledger import Ledger
from tests.support.messages import Message, Sale, event, new_id
from tests.support.stack import Database
from tests.support.till import Till, fraud_warning

RETENTION = timedelta(days=200)
DAY = timedelta(days=1)


def charge(payment: str | None, customer: str | None, **changes: Any) -> Message:
    return {
        "id": new_id("ch"), "object": "charge", "payment_intent": payment, "customer": customer,
        "status": "succeeded", "amount_refunded": 0, "receipt_url": "https://example.com/r",
        "balance_transaction": new_id("txn"), **changes,
    }  # fmt: skip


def tables_with(ledger: Ledger, word: str | None) -> list[str]:
    """The tables that have the word anywhere."""
    assert word
    found = []
    for row in ledger.rows(
        "select c.oid::regclass::text as name from pg_class as c where c.relkind = 'r' "
        "and c.relnamespace in ('public'::regnamespace, 'credits'::regnamespace) order by 1"
    ):
        query = sql.SQL("select count(*) from {} as t where to_jsonb(t)::text like {}").format(
            sql.SQL(row["name"]), f"%{word}%"
        )
        if ledger.value(query.as_string(ledger.connection)):
            found.append(row["name"].removeprefix("credits."))
    return found


def everything_of(sale: Sale) -> list[Message]:
    """What a webhook hears of a payment in which something went wrong, but for its session."""
    paid_for = {
        "id": new_id("inpay"), "object": "invoice_payment", "invoice": new_id("in"), "status": "paid",
        "payment": {"type": "payment_intent", "payment_intent": sale.payment},
    }  # fmt: skip
    return [
        event("invoice_payment.paid", paid_for),
        *sale.refund(300),
        *sale.dispute("needs_response", "lost", amount=100),
        fraud_warning(sale.payment),
        event("charge.updated", charge(sale.payment, "cus_other", amount_refunded=300)),
    ]


def test_charges_of_others_leave_nothing(own_till: Till) -> None:
    """The most frequent messages of all."""
    theirs = charge(new_id("pi"), new_id("cus"))
    guests = charge(new_id("pi"), None)
    for content in (theirs, guests):
        for kind in ("charge.succeeded", "charge.updated"):
            told = event(kind, content)
            assert own_till.tell([told, told]) == ["ignored", "duplicate"]
        for word in (content["payment_intent"], content["balance_transaction"], content["id"]):
            assert tables_with(own_till.ledger, word) == []
    (events,) = own_till.ledger.rows("select count(*), count(payload) as payloads from credits.stripe_events")
    assert tuple(events.values()) == (4, 0)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_charge_of_a_customer_of_ours_may_come_first(till: Till, deleted: bool) -> None:
    _, account = till.buyer()
    sale = Sale(account, customer=new_id("cus"))
    till.ledger.as_service("link_stripe_customer", account_id=account, customer_id=sale.customer)
    if deleted:
        till.tell([event("customer.deleted", {"id": sale.customer, "object": "customer"})])
    told = event("charge.succeeded", charge(sale.payment, sale.customer))
    assert till.tell([told, *sale.completed()]) == ["applied", "applied"]
    assert till.purchase(checkout_session_id=sale.session)["receipt_url"] == "https://example.com/r"


def test_a_charge_of_a_payment_that_is_known(till: Till) -> None:
    """Of a subscription that a person made in Stripe, whose customer nobody linked."""
    link = everything_of(Sale("nobody"))[0]
    payment = link["data"]["object"]["payment"]["payment_intent"]
    told = event("charge.succeeded", charge(payment, new_id("cus")))
    assert till.tell([link, told]) == ["applied", "applied"]


def test_what_nobody_claims_is_forgotten(own_till: Till) -> None:
    till, ledger = own_till, own_till.ledger
    user, account = till.buyer()
    mine, theirs = Sale(account, customer=new_id("cus")), Sale("nobody")
    till.tell([*mine.completed(), *everything_of(mine), *everything_of(theirs)])
    gone = new_id("cus")
    till.tell([event("customer.deleted", {"id": gone, "object": "customer"})])
    kept = {
        "stripe_balance_transactions", "stripe_disputes", "stripe_events", "stripe_fraud_warnings",
        "stripe_payments", "stripe_refunds",
    }  # fmt: skip
    assert set(tables_with(ledger, theirs.payment)) == kept
    before = tables_with(ledger, mine.payment)
    balance = till.balance(user)
    # Payloads have a time of their own.
    ledger.rows("update credits.stripe_events set payload = null")
    kept.remove("stripe_events")
    before.remove("stripe_events")

    ledger.pass_time(RETENTION - DAY)
    till.maintain()
    assert set(tables_with(ledger, theirs.payment)) == kept
    assert tables_with(ledger, gone) == ["stripe_customers"]
    ledger.pass_time(2 * DAY)
    till.maintain()
    assert tables_with(ledger, theirs.payment) == tables_with(ledger, gone) == []
    assert tables_with(ledger, mine.payment) == before
    assert till.balance(user) == balance
    assert ledger.as_service("maintenance_report") in (None, [])
    assert ledger.broken() == []
    # What comes again is kept again, as if it were new.
    till.tell(event(told["type"], told["data"]["object"]) for told in everything_of(theirs))
    assert "stripe_refunds" in tables_with(ledger, theirs.payment)


def test_until_then_a_purchase_finds_what_was_told_of_it(own_till: Till) -> None:
    user, account = own_till.buyer()
    sale = Sale(account)
    own_till.tell(sale.refund(300, told_by_charge=False))
    own_till.ledger.pass_time(RETENTION - DAY)
    own_till.maintain()
    own_till.tell(sale.completed())
    assert own_till.balance(user) == 70
    own_till.ledger.pass_time(2 * DAY)
    own_till.maintain()
    assert tables_with(own_till.ledger, sale.payment).count("stripe_refunds") == 1
    assert own_till.ledger.broken() == []


def test_a_payment_that_is_being_dealt_with_stays(own_till: Till, own_db: Database) -> None:
    """Its purchase may be just about to be told."""
    sale = Sale("nobody")
    own_till.tell(sale.refund(300))
    own_till.ledger.pass_time(RETENTION + DAY)
    with own_db.connect() as other, other.transaction():
        other.execute("select credits.lock_stripe_object(%s)", [sale.payment])
        own_till.maintain()
        assert "stripe_refunds" in tables_with(own_till.ledger, sale.payment)
    own_till.maintain()
    assert "stripe_refunds" not in tables_with(own_till.ledger, sale.payment)


def test_ignored_events_are_forgotten_and_ignored_again(own_till: Till) -> None:
    ledger = own_till.ledger
    ledger.rows("update credits.billing_settings set stripe_payload_retention = '1 day'")
    _, account = own_till.buyer()
    ours, other = Sale(account).completed()[0], event("payout.paid", {"object": "payout", "id": "po_1"})
    quarantined = Sale(account).completed()[0] | {"livemode": True}
    assert own_till.tell([ours, other, quarantined]) == ["applied", "ignored", "quarantined"]
    ledger.rows("update credits.stripe_events set received_at = credits.now()")
    own_till.pass_time_until(ledger.now() + DAY - timedelta(seconds=1))
    assert own_till.tell([other]) == ["duplicate"]
    own_till.pass_time_until(ledger.now() + timedelta(seconds=2))
    left = ledger.rows("select status from credits.stripe_events order by status")
    assert [row["status"] for row in left] == ["applied", "quarantined"]
    assert own_till.tell([ours, other]) == ["duplicate", "ignored"]


def test_a_sweep_is_bounded(own_till: Till) -> None:
    own_till.tell(told for _ in range(5) for told in Sale("nobody").refund(300, told_by_charge=False))
    own_till.ledger.pass_time(RETENTION + DAY)
    assert [own_till.ledger.value("select credits.sweep_unclaimed_payments(3)") for _ in range(3)] == [
        3,
        2,
        0,
    ]
    with pytest.raises(psycopg.Error):
        own_till.ledger.connection.execute(
            "set role service_role; select credits.sweep_unclaimed_payments(3)"
        )
