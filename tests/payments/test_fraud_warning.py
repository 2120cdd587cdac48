"""Early fraud warnings: noted, or a reason to freeze; never to take credits."""

import pytest

from tests.support.ledger import Ledger
from tests.support.messages import Contract, Sale, new_id
from tests.support.till import WARNED, Till, fraud_warning, frozen_reason


def test_by_default_a_warning_is_only_noted(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    told = fraud_warning(sale.payment)
    assert till.tell([*sale.completed(), told, told]) == ["applied", "applied", "duplicate"]
    assert (frozen_reason(till, user), till.balance(user)) == (None, 100)
    (row,) = till.ledger.rows(
        "select account_id::text, fraud_type, freezes, froze_at from credits.stripe_fraud_warnings "
        "where payment_intent_id = %s", sale.payment,
    )  # fmt: skip
    assert tuple(row.values()) == (account, "made_with_stolen_card", False, None)


@pytest.mark.parametrize("warned_first", [False, True])
def test_a_warning_freezes_once_where_the_setting_says_so(own_till: Till, warned_first: bool) -> None:
    till, (user, account) = own_till, own_till.buyer()
    sale = Sale(account)
    told = [fraud_warning(sale.payment)]
    till.tell([*told, *sale.completed()] if warned_first else [*sale.completed(), *told])
    assert (frozen_reason(till, user), till.balance(user)) == (WARNED, 100)
    # An operator looked at it: news of the same warning, and of the payment, changes nothing.
    till.ledger.as_service("unfreeze_account", user_id=user)
    again = told[0] | {"id": new_id("evt")}
    till.tell([again, *sale.refund(100)])
    assert till.ledger.as_service("ingest_stripe_object", object=again["data"]["object"]) == {
        "status": "unchanged", "reason": None,
    }  # fmt: skip
    assert (frozen_reason(till, user), till.balance(user)) == (None, 90)


def test_a_won_dispute_does_not_undo_a_warnings_freeze(own_till: Till) -> None:
    till, (user, account) = own_till, own_till.buyer()
    sale = Sale(account)
    till.tell([*sale.completed(), fraud_warning(sale.payment), *sale.dispute("needs_response", "won")])
    assert frozen_reason(till, user) == WARNED


def test_what_was_noted_before_the_setting_freezes_nothing_later(own_ledger: Ledger) -> None:
    till = Till(own_ledger)
    user, account = till.buyer()
    sale = Sale(account)
    told = fraud_warning(sale.payment)
    till.tell([told])
    own_ledger.rows("update credits.billing_settings set freeze_on_fraud_warning = true")
    till.tell([*sale.completed(), told | {"id": new_id("evt")}])
    assert frozen_reason(till, user) is None


def test_a_subscriptions_payment_is_warned_of_too(own_till: Till) -> None:
    till, (user, account) = own_till, own_till.buyer()
    sub, payment = Contract(account, till.plan(100, 1000), till.ledger.now()), new_id("pi")
    other, _ = till.buyer()
    till.tell([fraud_warning(payment), *sub.begin(payment)])
    assert (frozen_reason(till, user), frozen_reason(till, other)) == (WARNED, None)


def test_a_warning_of_nothing_of_ours_is_ignored_or_put_aside(till: Till) -> None:
    assert till.tell([fraud_warning(None), fraud_warning("pi_1", id="x")]) == ["ignored", "quarantined"]
