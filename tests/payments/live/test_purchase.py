"""A purchase from the sign-up to the last refund: by functions, the local Stripe and its webhooks."""

import random

import pytest

from tests.support.shop import BONUS, Buyer, Shop, ending

# The package "popular": 200 credits for $17.99.
PAID, CREDITS = 1799, 200
PARTS = [600, 599, 600]
CLAWED_BACK = [67, 133, 200]  # round(200 * refunded so far / 1799)


def test_a_full_life(shop: Shop) -> None:
    ann = shop.buyer()
    session = ann.checkout(package="popular")
    assert ann.balance() == BONUS
    payment = shop.pay(session)
    shop.control.settled()
    assert ann.balance() == BONUS + CREDITS
    ann.spend(6)
    for amount, clawed_back in zip(PARTS, CLAWED_BACK, strict=True):
        shop.refund(payment, amount)
        shop.control.settled()
        assert ann.balance() == BONUS + CREDITS - 30 - clawed_back
    assert ann.entries() == [
        ("grant", BONUS), ("grant", CREDITS), ("spend", -30),
        ("clawback", -67), ("clawback", -66), ("clawback", -67),
    ]  # fmt: skip
    (purchase,) = ann.rows("purchases")
    expected = {
        "checkout_session_id": session, "payment_intent_id": payment, "package": "popular", "status": "paid",
        "amount": PAID, "currency": "usd", "credits_granted": CREDITS, "credits_clawed_back": CREDITS,
        "refunded_amount": PAID,
    }  # fmt: skip
    assert {name: purchase[name] for name in expected} == expected
    # The next purchase pays the debt off first.
    shop.buy(ann)
    assert ann.balance() == BONUS - 30 + 50
    assert shop.broken() == []


def life(shop: Shop, buyer: Buyer, dice: random.Random) -> None:
    """A purchase and its refunds, abandoned and declined checkouts in between."""
    shop.control.expire(buyer.checkout(package="pro"))
    session = buyer.checkout(package="popular", quantity=2)
    shop.control.decline(session)
    payment = shop.pay(session)
    for _ in range(3):
        shop.refund(payment, dice.randrange(1, 1100))
    failing = shop.refund(payment, 100)
    shop.control.settle_refund(failing, success=False)
    late = buyer.checkout(package="starter")
    shop.control.complete(late)


@pytest.mark.parametrize("seed", [1, 2])
def test_shuffled_and_three_times_each_over_8_connections(shop: Shop, seed: int) -> None:
    first = shop.buyer()
    life(shop, first, random.Random(seed))  # noqa: S311 (the same each time)
    shop.control.settled()
    others = [shop.buyer() for _ in range(2)]
    shop.control.delivery("hold")
    for other in others:
        life(shop, other, random.Random(seed))  # noqa: S311
    assert [other.balance() for other in others] == [BONUS] * 2
    answers = shop.control.deliver(seed=seed, times=3, connections=8)
    assert len(answers) >= 2 * 3 * 8
    assert {answer["status"] for answer in answers} == {200}
    expected = ending(shop, first)
    popular = expected["purchases"][0]  # then pro and starter
    granted, clawed_back, refunded = popular[5:8]
    assert refunded > 0
    assert (granted, clawed_back) == (2 * CREDITS, round(2 * CREDITS * refunded / (2 * PAID)))
    assert expected["account"][0] == BONUS + 50 + granted - clawed_back
    for other in others:
        assert ending(shop, other) == expected
        kinds = [kind for kind, _ in other.entries()]
        assert kinds.count("grant") == 3
    assert shop.broken() == []
