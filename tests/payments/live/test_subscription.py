"""A subscription from its trial to its end, as time passes for Stripe and for the ledger alike."""

from typing import Any

from tests.support.shop import BONUS, HTTP, Buyer, Shop

SMALL, BIG, TRIAL = 300, 1000, 50  # credits
BOUGHT = BONUS + 50  # what never expires
HOUR = 3600


def status(buyer: Buyer) -> dict[str, Any]:
    """The user's one subscription, as the app reads it."""
    (row,) = buyer.rows("subscriptions")
    return row


def to_renewal(shop: Shop, subscription: str, share: float = 1) -> None:
    """Go to the end of the period and past the hour for which its invoice is a draft, or to a share of it."""
    item = shop.stripe.v1.subscriptions.retrieve(subscription)["items"].data[0]
    start, end = item.current_period_start, item.current_period_end
    moment = end + 2 * HOUR if share == 1 else start + int((end - start) * share)
    shop.advance(seconds=moment - shop.control.now())


def portal(shop: Shop, buyer: Buyer, subscription: str, **form: str) -> None:
    """Press a button on Stripe's portal page, to which the app has sent the user."""
    url = buyer.call("billing-portal", return_url="http://localhost:3000/account")["url"]
    assert "Done." in HTTP.post(url, data={"subscription": subscription, **form}).text
    shop.control.settled()


def test_trial_upgrade_failure_pause_and_end(shop: Shop) -> None:
    small = shop.plan(SMALL, 1000, trial_days=14, trial_credits=TRIAL)
    big = shop.plan(BIG, 4000)
    ann = shop.buyer()
    shop.buy(ann)  # renewals, changes and the end never touch these
    session = shop.control.complete(ann.checkout(plan=small.slug))
    shop.control.settled()
    subscription = session["subscription"]
    assert (status(ann)["status"], status(ann)["plan"], status(ann)["id"]) == (
        "trialing", small.slug, subscription)  # fmt: skip
    assert ann.balance() == BOUGHT + TRIAL
    ann.spend(4)  # of the trial's credits, which expire first

    to_renewal(shop, subscription)
    assert status(ann)["status"] == "active"
    assert ann.balance() == BOUGHT + SMALL  # 30 of the trial expired
    ann.spend(20)

    # In mid-period half of the old plan's price comes back, and half of the new one's is due.
    to_renewal(shop, subscription, 0.5)
    portal(shop, ann, subscription, do="switch", price=big.price)
    assert status(ann)["plan"] == big.slug
    assert ann.balance() == BOUGHT + SMALL - 100 + (BIG - SMALL) // 2

    shop.control.fail_payments(1, customer=session["customer"])
    to_renewal(shop, subscription)
    assert status(ann)["status"] == "past_due"
    assert ann.balance() == BOUGHT
    shop.advance(days=3, hours=2)  # Stripe tries again
    assert status(ann)["status"] == "active"
    assert ann.balance() == BOUGHT + BIG

    client = shop.stripe.v1.subscriptions
    client.update(subscription, {"pause_collection": {"behavior": "void"}})
    shop.control.settled()
    assert (status(ann)["paused"], ann.balance()) == (True, BOUGHT + BIG)
    to_renewal(shop, subscription)
    assert ann.balance() == BOUGHT  # nothing was paid
    client.update(subscription, {"pause_collection": ""})
    shop.control.settled()
    assert not status(ann)["paused"]
    to_renewal(shop, subscription)
    assert ann.balance() == BOUGHT + BIG
    ann.spend(200)  # all of the period's credits

    portal(shop, ann, subscription, do="cancel")
    assert status(ann)["cancel_at"] is not None
    assert (status(ann)["status"], ann.balance()) == ("active", BOUGHT)
    to_renewal(shop, subscription)
    assert (status(ann)["status"], ann.balance()) == ("canceled", BOUGHT)
    shop.advance(days=40)
    assert ann.balance() == BOUGHT
    assert ann.entries() == [
        ("grant", BONUS), ("grant", 50),
        ("grant", TRIAL), ("spend", -20), ("expiry", -30),
        ("grant", SMALL), ("spend", -100),
        ("grant", (BIG - SMALL) // 2), ("expiry", -200), ("expiry", -350),
        ("grant", BIG), ("expiry", -BIG),
        ("grant", BIG), ("spend", -1000),
    ]  # fmt: skip
    states = [(row["plan"], row["status"], row["credits_granted"]) for row in ann.rows("purchases")[1:]]
    assert states == [
        (small.slug, "paid", TRIAL), (small.slug, "paid", SMALL), (big.slug, "paid", 350),
        (big.slug, "paid", BIG), (big.slug, "expired", 0), (big.slug, "paid", BIG),
    ]  # fmt: skip


def test_shuffled_and_three_times_each_over_8_connections(shop: Shop) -> None:
    """Where the messages do not tell which is newer, Stripe is asked, and its word counts."""
    small, big = shop.plan(SMALL, 1000), shop.plan(BIG, 4000)
    buyers = [shop.buyer() for _ in range(2)]
    client = shop.stripe.v1.subscriptions
    shop.control.delivery("hold")
    for buyer, ends in zip(buyers, (True, False), strict=True):
        subscription = str(shop.control.complete(buyer.checkout(plan=small.slug))["subscription"])
        item = client.retrieve(subscription)["items"].data[0].id
        upgrade: Any = {"items": [{"id": item, "price": big.price}], "proration_behavior": "always_invoice"}
        client.update(subscription, upgrade)
        client.update(subscription, {"cancel_at_period_end": not ends})
        client.update(subscription, {"cancel_at_period_end": ends})
    answers = shop.control.deliver(seed=4, times=3, connections=8)
    assert {answer["status"] for answer in answers} == {200}
    for buyer, ends in zip(buyers, (True, False), strict=True):
        told = status(buyer)
        assert (told["plan"], told["status"], told["cancel_at"] is not None) == (big.slug, "active", ends)
        assert buyer.balance() == BONUS + BIG
        assert sorted(buyer.entries()) == [("grant", BONUS), ("grant", SMALL), ("grant", BIG - SMALL)]
