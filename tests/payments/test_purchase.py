"""A package bought through Checkout: granted once, taken back in proportion, in any order of the messages."""

import itertools

import pytest

from tests.support.ledger import Ledger
from tests.support.messages import Sale, event
from tests.support.till import Till


def test_a_purchase_from_payment_to_the_last_refund(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account, credits=100, amount=999)
    assert till.tell(sale.completed()) == ["applied"]
    assert till.balance(user) == 100
    bought = till.purchase(checkout_session_id=sale.session)
    assert (bought["status"], bought["credits_granted"], bought["payment_intent_id"]) == (
        "paid",
        100,
        sale.payment,
    )
    for amount, balance in ((250, 75), (250, 50), (499, 0)):
        till.tell(sale.refund(amount))
        assert till.balance(user) == balance
    bought = till.purchase(checkout_session_id=sale.session)
    assert (bought["credits_clawed_back"], bought["refunded_amount"]) == (100, 999)
    assert till.ledger.broken(user) == []


def test_the_same_event_counts_once(till: Till) -> None:
    user, account = till.buyer()
    messages = Sale(account).completed()
    assert till.tell(messages * 3) == ["applied", "duplicate", "duplicate"]
    assert till.balance(user) == 100


def test_another_event_about_the_same_session_grants_nothing_more(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    assert till.tell([*sale.completed(), *sale.completed(), *sale.paid_late()]) == ["applied"] * 3
    assert till.balance(user) == 100


@pytest.mark.parametrize("late", [False, True])
def test_a_slow_payment_grants_when_it_arrives(till: Till, late: bool) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    messages = [sale.completed("unpaid"), sale.paid_late()]
    for number, step in enumerate(reversed(messages) if late else messages):
        till.tell(step)
        assert till.balance(user) == (100 if late or number else 0)
    assert till.purchase(checkout_session_id=sale.session)["status"] == "paid"


def test_a_slow_payment_that_fails_grants_nothing(till: Till) -> None:
    user, account = till.buyer()
    for order in (0, 1):
        sale = Sale(account)
        steps = [sale.completed("unpaid"), sale.failed_late()]
        till.tell(itertools.chain(*(steps if order else reversed(steps))))
        assert till.purchase(checkout_session_id=sale.session)["status"] == "failed"
    assert till.balance(user) == 0


def test_an_expired_session_is_noted_unless_granted(till: Till) -> None:
    _, account = till.buyer()
    abandoned, bought = Sale(account, payment=None), Sale(account)
    till.tell([*abandoned.expired(), *bought.expired(), *bought.completed(), *bought.expired()])
    assert till.purchase(checkout_session_id=abandoned.session)["status"] == "expired"
    assert till.purchase(checkout_session_id=bought.session)["status"] == "paid"


def test_a_free_purchase_grants_and_has_nothing_to_refund(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account, amount=0, payment=None)
    till.tell(sale.completed("no_payment_required"))
    assert till.balance(user) == 100
    assert till.ledger.broken(user) == []


def test_a_refund_before_its_purchase_is_netted(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    refund = sale.refund(400)
    assert till.tell([*refund, *sale.completed()]) == ["applied"] * 3
    assert till.balance(user) == 60


def test_a_refund_that_fails_gives_the_credits_back(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    pending, failed = sale.refund(400, "pending", "failed", told_by_charge=False)
    till.tell([pending])
    assert till.balance(user) == 60
    till.tell([failed, pending | {"id": "evt_again" + pending["id"]}])
    assert till.balance(user) == 100
    assert till.ledger.broken(user) == []


def test_what_only_the_charge_tells_counts_until_its_refund_is_known(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    created, failed, told = sale.refund(300, "succeeded", "failed")
    till.tell([told])
    assert till.balance(user) == 70
    till.tell([created])
    assert till.balance(user) == 70
    till.tell([failed])
    assert till.balance(user) == 100


def test_credits_that_were_spent_are_owed(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=90)
    till.tell(sale.refund(1000))
    assert till.balance(user) == -90
    till.tell(Sale(account).completed())
    assert till.balance(user) == 10
    assert till.ledger.broken(user) == []


@pytest.mark.parametrize(
    ("bought", "amount", "refunds", "balances"),
    [(3, 100, (50, 17, 33), (1, 1, 0)), (7, 3, (1, 1, 1), (5, 2, 0)), (1000, 1, (1,), (0,))],
)
def test_rounding_adds_up(
    till: Till, bought: int, amount: int, refunds: tuple[int, ...], balances: tuple[int, ...]
) -> None:
    user, account = till.buyer()
    sale = Sale(account, credits=bought, amount=amount, currency="jpy")
    till.tell(sale.completed())
    for refund, balance in zip(refunds, balances, strict=True):
        till.tell(sale.refund(refund))
        assert till.balance(user) == balance


def test_a_dispute_freezes_and_takes_and_a_won_one_gives_back_what_was_spent_since(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    till.ledger.as_user(user, "consume_credits", operation="one", quantity=60)
    messages = sale.dispute("needs_response", "under_review", "won")
    till.tell(messages[:1])
    assert till.balance(user) == -60
    assert till.ledger.account(user)["frozen_at"] is not None
    till.tell(messages[1:])
    assert till.balance(user) == 40
    assert till.ledger.account(user)["frozen_at"] is None
    till.tell(message | {"id": message["id"] + "x"} for message in messages)
    assert till.balance(user) == 40
    assert till.ledger.broken(user) == []


def test_a_lost_dispute_keeps_the_credits_and_the_freeze(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell([*sale.completed(), *sale.dispute("needs_response", "lost", amount=500)])
    assert till.balance(user) == 50
    assert till.ledger.account(user)["frozen_at"] is not None


def test_a_lost_dispute_whose_money_comes_back_after_all_gives_back(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    lost = sale.dispute("needs_response", "lost")
    back = event("charge.dispute.funds_reinstated", lost[-1]["data"]["object"])
    till.tell([*sale.completed(), *lost, back])
    assert till.balance(user) == 100
    assert till.ledger.account(user)["frozen_at"] is None


def test_an_inquiry_changes_nothing_until_it_becomes_a_dispute(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    warning, review, *rest = sale.dispute("warning_needs_response", "warning_under_review", "needs_response")
    assert till.tell([*sale.completed(), warning, review]) == ["applied"] * 3
    assert (till.balance(user), till.ledger.account(user)["frozen_at"]) == (100, None)
    till.tell(rest)
    assert till.balance(user) == 0


def test_refund_and_dispute_together_take_no_more_than_was_granted(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell([*sale.completed(), *sale.refund(700), *sale.dispute("needs_response", "lost")])
    assert till.balance(user) == 0
    assert till.purchase(checkout_session_id=sale.session)["credits_clawed_back"] == 100


def test_a_dispute_in_another_currency_disputes_the_whole(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell([*sale.completed(), *sale.dispute("needs_response", amount=3, currency="eur")])
    assert till.balance(user) == 0


def test_an_operators_freeze_outlives_a_won_dispute(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    dispute = sale.dispute("needs_response", "won")
    till.tell([*sale.completed(), dispute[0]])
    till.ledger.as_service("freeze_account", user_id=user, reason="Under review.")
    till.tell(dispute[1:])
    assert till.ledger.account(user)["frozen_reason"] == "Under review."


def test_what_froze_an_account_is_no_sentence(till: Till) -> None:
    """An operator may say the same words."""
    user, account = till.buyer()
    sale = Sale(account)
    dispute = sale.dispute("needs_response", "won")
    till.tell([*sale.completed(), dispute[0]])
    frozen = till.ledger.account(user)
    assert frozen["frozen_by"] == "dispute"
    till.ledger.as_service("freeze_account", user_id=user, reason=frozen["frozen_reason"])
    till.tell(dispute[1:])
    assert till.ledger.account(user)["frozen_by"] == "operator"
    till.ledger.as_service("unfreeze_account", user_id=user)
    assert till.ledger.account(user)["frozen_by"] is None


def test_a_dispute_leaves_an_operators_freeze_as_it_is(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.ledger.as_service("freeze_account", user_id=user, reason="Under review.")
    till.tell([*sale.completed(), *sale.dispute("needs_response", "won")])
    assert till.ledger.account(user)["frozen_reason"] == "Under review."


def test_an_operators_unfreezing_outlives_news_of_the_same_dispute(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    dispute = sale.dispute("needs_response", "under_review")
    till.tell([*sale.completed(), *dispute[:2]])
    till.ledger.as_service("unfreeze_account", user_id=user)
    till.tell(dispute[2:])
    assert till.ledger.account(user)["frozen_at"] is None


def test_one_won_dispute_does_not_unfreeze_for_another(till: Till) -> None:
    user, account = till.buyer()
    first, second = Sale(account), Sale(account)
    till.tell([*first.completed(), *second.completed(), *second.dispute("needs_response")])
    till.tell(first.dispute("needs_response", "won"))
    assert till.ledger.account(user)["frozen_at"] is not None


def test_a_deleted_customer_is_unlinked_and_stays_so(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account, customer="cus_" + account.replace("-", ""))
    till.tell(sale.completed())
    assert till.ledger.as_user(user, "my_stripe_customer") == sale.customer
    till.tell([event("customer.deleted", {"id": sale.customer, "object": "customer"})])
    till.tell(sale.refund(100))
    till.tell(message | {"id": message["id"] + "x"} for message in sale.completed())
    assert till.ledger.rows("select * from credits.stripe_customers where account_id = %s", account) == []
    assert till.balance(user) == 90


def test_a_deleted_user_keeps_a_ledger_that_stripe_still_writes(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    till.ledger.rows("delete from auth.users where id = %s", user)
    assert till.tell(sale.refund(300)) == ["applied", "applied"]
    assert till.ledger.value("select balance from public.credit_accounts where id = %s", account) == 70


def test_a_refund_takes_back_more_than_may_be_granted_by_now(own_ledger: Ledger) -> None:
    till = Till(own_ledger)
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    own_ledger.rows("update credits.billing_settings set max_grant = 10")
    assert set(till.tell(sale.refund(1000))) == {"applied"}
    assert till.balance(user) == 0


@pytest.mark.parametrize("backwards", [False, True])
def test_a_prevented_dispute_freezes_nothing_and_takes_what_its_money_took(
    till: Till, backwards: bool
) -> None:
    """Resolved before it became a chargeback: the money went back to the buyer, for good."""
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    told = sale.dispute("needs_response", "prevented", amount=400)
    till.tell(told[:2])
    frozen = till.ledger.account(user)
    assert (frozen["balance"], frozen["frozen_reason"]) == (60, "A payment of this account is disputed.")
    till.tell(message | {"id": message["id"] + "x"} for message in (told[::-1] if backwards else told))
    released = till.ledger.account(user)
    assert (released["balance"], released["frozen_at"]) == (60, None)
    assert till.ledger.broken(user) == []


def test_a_dispute_that_was_blocked_takes_nothing_until_money_goes(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.tell(sale.completed())
    opened, blocked = sale.dispute("needs_response", "prevented", takes_money=False)
    till.tell([opened])
    assert till.balance(user) == 0
    assert till.ledger.account(user)["frozen_at"]
    till.tell([blocked])
    assert (till.balance(user), till.ledger.account(user)["frozen_at"]) == (100, None)
    dispute = blocked["data"]["object"]
    till.tell([event("charge.dispute.funds_withdrawn", dispute)])
    assert (till.balance(user), till.ledger.account(user)["frozen_at"]) == (0, None)
    till.tell([event("charge.dispute.funds_reinstated", dispute)])
    assert till.balance(user) == 100
    # The same from the object alone, as reconciliation reads it.
    other = Sale(account)
    till.tell(other.completed())
    for moved, balance in (([{"amount": -1000}], 100), ([{"amount": -1000}, {"amount": 1000}], 200)):
        seen = dispute | {
            "id": dispute["id"] + "2", "payment_intent": other.payment, "balance_transactions": moved,
        }  # fmt: skip
        assert till.ledger.as_service("ingest_stripe_object", object=seen)["status"] == "changed"
        assert till.balance(user) == balance
    assert till.ledger.broken(user) == []


def test_a_prevented_dispute_leaves_an_operators_freeze(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    till.ledger.as_service("freeze_account", user_id=user, reason="looked at")
    till.tell([*sale.completed(), *sale.dispute("needs_response", "prevented")])
    assert till.ledger.account(user)["frozen_reason"] == "looked at"
