"""Disputes of a purchase whose credits are spent already."""

from typing import Literal

import pytest
from postgrest.exceptions import APIError

from tests.support.shop import BONUS, Buyer, Shop

# The package "popular": 200 credits for $17.99. Thirty memes are spent of it.
CREDITS, SPENT = 200, 150


@pytest.fixture
def spent(shop: Shop) -> tuple[Buyer, str]:
    """A buyer who has spent most of a purchase, and its payment intent."""
    buyer = shop.buyer()
    payment = shop.buy(buyer, "popular")
    buyer.spend(SPENT // 5)
    return buyer, payment


def refused(buyer: Buyer) -> str:
    """The code with which a spend is refused."""
    with pytest.raises(APIError) as error:
        buyer.spend(1)
    return str(error.value.code)


def test_won(shop: Shop, spent: tuple[Buyer, str]) -> None:
    buyer, payment = spent
    dispute = shop.control.dispute(payment)["id"]
    shop.control.settled()
    assert buyer.balance() == BONUS - SPENT
    assert refused(buyer) == "PT403"
    shop.control.move_dispute(dispute, "win")
    shop.control.settled()
    assert buyer.balance() == BONUS + CREDITS - SPENT
    buyer.spend(12)
    kinds = [kind for kind, _ in buyer.entries()]
    assert (kinds.count("clawback"), sum(amount for _, amount in buyer.entries())) == (1, 0)


def test_lost(shop: Shop, spent: tuple[Buyer, str]) -> None:
    buyer, payment = spent
    dispute = shop.control.dispute(payment, 899)["id"]
    shop.control.settled()
    taken = round(CREDITS * 899 / 1799)
    assert buyer.balance() == BONUS + CREDITS - SPENT - taken
    shop.control.move_dispute(dispute, "lose")
    shop.control.settled()
    assert buyer.balance() == BONUS + CREDITS - SPENT - taken
    assert refused(buyer) == "PT403"
    operator = shop.env.client(shop.env.secret_key)
    operator.rpc("unfreeze_account", {"user_id": buyer.id}).execute()
    assert refused(buyer) == "PT402"  # 40 below zero
    shop.buy(buyer)
    buyer.spend(2)
    assert buyer.balance() == 0


@pytest.mark.parametrize(("how", "kept"), [("block", CREDITS), ("resolve", 0)])
def test_prevented(shop: Shop, spent: tuple[Buyer, str], how: Literal["block", "resolve"], kept: int) -> None:
    """No chargeback comes of it: the account is free, and the credits go as the money went."""
    buyer, payment = spent
    dispute = shop.control.dispute(payment)["id"]
    shop.control.settled()
    assert refused(buyer) == "PT403"
    shop.control.move_dispute(dispute, how)
    shop.control.settled()
    assert buyer.balance() == BONUS + kept - SPENT
    if kept:
        buyer.spend(1)
    else:
        assert refused(buyer) == "PT402"


def test_a_warning_of_fraud_that_was_never_told(shop: Shop, spent: tuple[Buyer, str]) -> None:
    buyer, payment = spent
    shop.control.delivery("drop")
    warning = shop.control.warn_of_fraud(payment)["id"]
    shop.control.delivery("normal")
    shop.reconcile(sweep=True)
    found = "select account_id is not null, froze_at from credits.stripe_fraud_warnings where id = %s"
    assert shop.sql(found, warning) == [(True, None)]
    buyer.spend(1)


def test_an_inquiry_then_a_dispute(shop: Shop, spent: tuple[Buyer, str]) -> None:
    buyer, payment = spent
    inquiry = shop.control.dispute(payment, inquiry=True)["id"]
    shop.control.settled()
    assert buyer.balance() == BONUS + CREDITS - SPENT
    buyer.spend(2)
    shop.control.move_dispute(inquiry, "escalate")
    shop.control.settled()
    assert refused(buyer) == "PT403"
    assert buyer.balance() == -SPENT
    shop.control.move_dispute(inquiry, "win")
    shop.control.settled()
    buyer.spend(2)
    assert buyer.balance() == CREDITS - SPENT - 10


def test_an_inquiry_that_ends(shop: Shop, spent: tuple[Buyer, str]) -> None:
    buyer, payment = spent
    inquiry = shop.control.dispute(payment, inquiry=True)["id"]
    shop.control.move_dispute(inquiry, "close")
    shop.control.settled()
    buyer.spend(2)
    assert [kind for kind, _ in buyer.entries()] == ["grant", "grant", "spend", "spend"]


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_refund_and_a_dispute_take_no_more_than_was_granted(
    shop: Shop, spent: tuple[Buyer, str], shuffled: bool
) -> None:
    buyer, payment = spent
    shop.control.delivery("hold" if shuffled else "normal")
    shop.refund(payment, 1000)
    dispute = shop.control.dispute(payment, 1799)["id"]
    if shuffled:
        answers = shop.control.deliver(seed=5, times=3, connections=8)
        assert {answer["status"] for answer in answers} == {200}
    shop.control.settled()
    (purchase,) = buyer.rows("purchases")
    assert (purchase["credits_clawed_back"], buyer.balance()) == (CREDITS, BONUS - SPENT)
    shop.control.delivery("normal")
    shop.control.move_dispute(dispute, "win")
    shop.control.settled()
    # What stays refunded stays taken.
    kept = round(CREDITS * 1000 / 1799)
    (purchase,) = buyer.rows("purchases")
    assert (purchase["credits_clawed_back"], buyer.balance()) == (kept, BONUS + CREDITS - SPENT - kept)
