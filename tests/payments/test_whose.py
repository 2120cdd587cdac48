"""An object of Stripe's stays with the account that it was first told for, whatever is told of it later."""

from typing import Any

import pytest

from tests.support.ledger import Refused
from tests.support.messages import Contract, Message, Sale, event, new_id
from tests.support.till import Till


def meant_for(message: Message, account: str | None) -> Message:
    """The same in a new event, with another account in its metadata, or none of what checkout had written."""
    content = message["data"]["object"]
    metadata = {} if account is None else content["metadata"] | {"account_id": account}
    return event(message["type"], content | {"metadata": metadata})


def entries(till: Till, account: str) -> list[dict[str, Any]]:
    return till.ledger.rows(
        "select kind, amount from public.credit_transactions where account_id = %s order by id", account
    )


@pytest.mark.parametrize("written", ["another's", "nobody's", "nothing"])
def test_a_session_that_names_another_account_later(till: Till, written: str) -> None:
    """Its purchase has the number of the first account's; the other has one of that number, too."""
    (ann, anns), (bob, bobs) = till.buyer(), till.buyer()
    other = Sale(bobs, credits=7)
    till.tell(other.completed())
    before = till.purchase(checkout_session_id=other.session)
    sale = Sale(anns)
    names = {"another's": bobs, "nobody's": "00000000-0000-4000-8000-000000000000", "nothing": None}
    assert till.tell(sale.completed("unpaid")) == ["applied"]
    (paid,) = [meant_for(message, names[written]) for message in sale.paid_late()]
    assert till.tell([paid, event(paid["type"], paid["data"]["object"])]) == ["applied", "applied"]
    assert (till.balance(ann), till.balance(bob)) == (100, 7)
    bought = till.purchase(checkout_session_id=sale.session)
    assert (str(bought["account_id"]), bought["id"], bought["status"]) == (anns, before["id"], "paid")
    assert (bought["credits_granted"], bought["package"]) == (100, sale.package)
    assert till.purchase(checkout_session_id=other.session) == before
    # Its refund goes the same way.
    till.tell(sale.refund(500))
    assert (till.balance(ann), till.balance(bob)) == (50, 7)
    assert till.ledger.broken() == []


def test_the_session_of_a_plan_that_checkout_has_opened(till: Till) -> None:
    """What checkout has noted says whose it is, before Stripe says anything."""
    (_, anns), (_, bobs) = till.buyer(), till.buyer()
    sub = Contract(anns, till.plan(100, 1000), till.ledger.now())
    session = sub.begin()[-1]
    till.ledger.as_service(
        "remember_checkout", account_id=anns, session_id=session["data"]["object"]["id"], request="0" * 64,
        url="https://example.com", expires_at="2100-02-01T00:00:00Z",
    )  # fmt: skip
    assert till.tell([meant_for(session, bobs)]) == ["applied"]
    assert str(till.subscription(sub.id)["account_id"]) == anns


def test_an_invoice_that_names_another_account_later(till: Till) -> None:
    (ann, anns), (bob, bobs) = till.buyer(), till.buyer()
    plan = till.plan(100, 1000)
    others = Contract(bobs, plan, till.ledger.now())
    till.tell(others.begin())
    sub = Contract(anns, plan, till.ledger.now())
    invoice = sub.invoice("subscription_create", [sub.line(1000)])
    failed = invoice | {"status": "open", "attempt_count": 1, "amount_paid": 0}
    assert till.tell([event("invoice.payment_failed", failed)]) == ["applied"]
    # As of the other's subscription: that is not this account's, and nothing is done.
    moved = invoice | {"customer": others.customer, "parent": others.invoice("", [])["parent"]}
    answer = till.ingest(event("invoice.paid", moved))
    assert (answer["status"], answer["reason"]) == ("quarantined", "The subscription is another account's.")
    assert (till.balance(ann), till.balance(bob)) == (0, 100)
    details = invoice["parent"]["subscription_details"] | {"metadata": {"account_id": bobs}}
    meant = invoice | {"customer": others.customer, "parent": {"subscription_details": details}}
    assert till.tell([event("invoice.paid", meant)]) == ["applied"]
    assert (till.balance(ann), till.balance(bob)) == (100, 100)
    assert till.ledger.broken() == []


def test_a_checkout_of_a_subscription_that_is_anothers(till: Till) -> None:
    """A sentence that says so, not the name of an index; and nothing is done, however often it comes."""
    (_, anns), (bob, bobs) = till.buyer(), till.buyer()
    sub = Contract(anns, till.plan(100, 1000), till.ledger.now())
    told = sub.begin()
    till.tell(told)
    session = meant_for(told[-1], bobs)
    session["data"]["object"] |= {"id": new_id("cs"), "customer": new_id("cus")}
    for message in (session, session, meant_for(session, bobs)):
        answer = till.ingest(message)
        assert (answer["status"], answer["reason"]) == (
            "quarantined", "The subscription is another account's."
        )  # fmt: skip
    with pytest.raises(Refused, match="You have not bought anything yet"):
        till.ledger.as_user(bob, "my_stripe_customer")
    assert str(till.subscription(sub.id)["account_id"]) == anns
    assert entries(till, bobs) == []
    # Told for its own account it is what it was.
    again = meant_for(session, anns)
    again["data"]["object"] |= {"customer": sub.customer}
    assert till.tell([again]) == ["applied"]
    assert till.ledger.broken() == []
