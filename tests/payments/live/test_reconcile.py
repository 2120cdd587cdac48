"""An hour of webhooks that never came: reconciliation ends where webhooks would have."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from _shared.payments.event_types import EVENT_TYPES
from tests.support.shop import BONUS, Buyer, Plan, Shop, ending


def hour(shop: Shop, buyer: Buyer, plan: Plan) -> list[Callable[[], object]]:
    """What happens to a buyer in an hour, step by step."""
    payments: list[str] = []
    disputes: list[str] = []
    return [
        lambda: payments.append(shop.pay(buyer.checkout(package="popular"))),
        lambda: shop.control.complete(buyer.checkout(plan=plan.slug)),
        lambda: shop.refund(payments[0], 600),
        lambda: payments.append(shop.pay(buyer.checkout(package="pro"))),
        lambda: shop.control.expire(buyer.checkout(package="starter")),
        lambda: shop.control.warn_of_fraud(payments[1]),
        lambda: disputes.append(shop.control.dispute(payments[1])["id"]),
        lambda: shop.control.move_dispute(disputes[0], "win"),
        lambda: payments.append(shop.pay(buyer.checkout(package="starter"))),
        lambda: shop.control.dispute(payments[2], 200),
        lambda: shop.refund(payments[0], 1),
    ]


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_hour_of_dropped_webhooks(shop: Shop, at_once: int) -> None:
    shop.reconcile()  # up to here all is well
    plan = shop.plan(300, 1900)
    ann, bob = shop.buyer(), shop.buyer()
    missed: set[str] = set()
    for heard, unheard in zip(hour(shop, ann, plan), hour(shop, bob, plan), strict=True):
        heard()
        shop.control.settled()
        last = shop.control.last_event()
        shop.control.delivery("drop")
        unheard()
        missed |= {event["id"] for event in shop.control.events(after=last)}
        shop.control.delivery("normal")
        shop.advance(seconds=360)
    assert bob.balance() == BONUS
    relevant = {
        event["id"]: event["type"] for event in shop.control.events()
        if event["id"] in missed and event["type"] in EVENT_TYPES
    }  # fmt: skip
    assert len(relevant) >= 15

    with ThreadPoolExecutor(at_once) as runs:
        reports = [run.result() for run in [runs.submit(shop.reconcile, sweep=True) for _ in range(at_once)]]
    assert ending(shop, bob) == ending(shop, ann)
    assert [report["problems"] for report in reports] == [[]] * at_once
    assert sum(report["events_missing"] for report in reports) == len(relevant)
    for kind in set(relevant.values()):
        applied = sum(report["events"][kind].get("applied", 0) for report in reports)
        assert applied == list(relevant.values()).count(kind)

    rows = len(bob.entries())
    again = shop.reconcile(sweep=True)
    assert (again["ok"], again["events_missing"], again["objects_repaired"]) == (True, 0, 0)
    assert len(bob.entries()) == rows
    assert shop.broken() == []
