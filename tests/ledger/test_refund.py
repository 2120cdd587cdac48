"""Refunds: back to the lots they came from, never more than was spent."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.clock import DAY, MINUTE
from tests.support.ledger import Ledger, Refused, buyer, lot


def test_a_refund_fills_the_lot_that_burned_last_first(ledger: Ledger) -> None:
    user = ledger.sign_up()
    for size in (4, 4, 4):
        ledger.as_service("grant_credits", user_id=user, amount=size, source="purchase")
    spent = ledger.as_user(user, "consume_credits", operation="one", quantity=11)
    for amount, remaining in ((5, [0, 2, 4]), (3, [1, 4, 4]), (None, [4, 4, 4])):
        row = ledger.as_service(
            "refund",
            account_id=spent["account_id"],
            transaction_id=spent["id"],
            amount=amount,
            reason="bad picture",
        )
        ledger.settle(user)
        assert [x["remaining"] for x in ledger.lots(user)] == remaining
        assert (row["related_id"], row["operation"], row["metadata"]) == (
            spent["id"],
            "one",
            {"reason": "bad picture"},
        )
    with pytest.raises(Refused) as caught:
        ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"], amount=1)
    assert caught.value.code == "PT409"
    assert ledger.broken(user) == []


def test_credits_of_an_expired_lot_live_on_for_the_grace(ledger: Ledger) -> None:
    user = ledger.sign_up()
    lot(ledger, user, 10, 5 * MINUTE, priority=7)
    spent = ledger.as_user(user, "consume_credits", operation="one", quantity=6)
    ledger.pass_time(10 * MINUTE)
    refunded = ledger.as_service(
        "refund", account_id=spent["account_id"], transaction_id=spent["id"], amount=5
    )
    lots = ledger.lots(user)
    assert [x["remaining"] for x in lots] == [0, 5]
    assert (lots[1]["source"], lots[1]["priority"], lots[1]["transaction_id"]) == (
        "refund",
        7,
        refunded["id"],
    )
    assert lots[1]["expires_at"] == ledger.now() + timedelta(days=30)
    assert lots[1]["returned_from"] == lots[0]["id"]
    ledger.pass_time(timedelta(days=30))
    assert ledger.as_user(user, "my_credits")["balance"] == 0
    # What is left to refund is refunded to a third lot.
    assert (
        ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"])["amount"] == 1
    )
    assert ledger.as_user(user, "my_credits")["balance"] == 1
    assert ledger.broken(user) == []


def test_a_capture_can_be_refunded(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=8)
    capture = ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"], quantity=6)
    assert (
        ledger.as_service("refund", account_id=capture["account_id"], transaction_id=capture["id"])["amount"]
        == 6
    )
    assert ledger.account(user)["balance"] == 10


def test_a_refund_goes_to_the_lot_that_a_capture_took_last(ledger: Ledger) -> None:
    """A capture takes what its hold kept from expiring before it takes what is alive, whatever the
    priorities.
    """
    user = ledger.sign_up()
    lot(ledger, user, 4, 2 * MINUTE, priority=90)
    lot(ledger, user, 10, timedelta(days=9), priority=0)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=6)
    ledger.pass_time(3 * MINUTE)
    capture = ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"])
    ledger.as_service("refund", account_id=capture["account_id"], transaction_id=capture["id"], amount=2)
    assert [x["remaining"] for x in ledger.lots(user)] == [0, 10]
    assert ledger.broken(user) == []


LOTS = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([1, 20, 60, 90]), st.sampled_from([40, 50])),
    min_size=1,
    max_size=3,
)


def history(
    ledger: Ledger, lots: list[tuple[int, int, int]], held: int, taken: tuple[int, int], later: int
) -> tuple[str, int]:
    """A user whose capture was partly, or wholly, a debt, and who may have others. Returns the capture's row.

    lots: (size, days to live, priority). taken: by clawbacks before and after the capture. later: a grant
    that pays a part of all these.
    """
    user = ledger.sign_up()
    for size, days, priority in lots:
        lot(ledger, user, size, days * DAY, priority)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=held)
    ledger.claw_back(user, taken[0])
    capture = ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"])
    if taken[1]:
        ledger.claw_back(user, taken[1])
    if later:
        lot(ledger, user, later, 15 * DAY)
    return user, int(capture["id"])


def left(ledger: Ledger, user: str) -> tuple[int, dict[tuple[object, ...], int]]:
    """The balance, and what is left by source, priority and expiry."""
    ledger.settle(user)
    found: dict[tuple[object, ...], int] = {}
    for row in ledger.lots(user):
        if row["remaining"]:
            kind = (row["source"], row["priority"], row["expires_at"])
            found[kind] = found.get(kind, 0) + row["remaining"]
    return int(ledger.account(user)["balance"]), found


@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lots=LOTS, part=st.floats(0.1, 1), taken=st.tuples(st.integers(1, 80), st.integers(0, 20)),
    later=st.integers(0, 30), expired=st.booleans(), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
)  # fmt: skip
# Of a capture of 10 two lots paid 3 each; the refund of its debt came from no lot.
@example(lots=[(5, 1, 40), (5, 60, 50)], part=1.0, taken=(4, 0), later=0, expired=False, cuts=[4, 3])
@example(lots=[(5, 1, 40), (5, 60, 50)], part=1.0, taken=(4, 0), later=0, expired=False, cuts=[2, 1, 5])
# An older debt is paid by what comes back, and not twice.
@example(lots=[(10, 1, 40), (30, 60, 50)], part=0.5, taken=(30, 9), later=5, expired=False, cuts=[3, 3, 9])
@example(lots=[(10, 1, 40), (30, 60, 50)], part=0.5, taken=(45, 9), later=30, expired=True, cuts=[3, 3, 9])
def test_how_a_refund_is_split_does_not_matter(
    ledger: Ledger, lots: list[tuple[int, int, int]], part: float, taken: tuple[int, int], later: int,
    expired: bool, cuts: list[int],
) -> None:  # fmt: skip
    """Several refunds of parts end as one of their sum: with the same balance, in the same lots."""
    held = max(1, int(sum(size for size, _, _ in lots) * part))
    amounts: list[int] = []
    for cut in cuts:
        amounts += [min(cut, held - sum(amounts))] * (sum(amounts) < held)
    histories = [history(ledger, lots, held, taken, later) for _ in range(2)]
    if expired:
        ledger.pass_time(2 * DAY)
    for (user, capture), split in zip(histories, ([sum(amounts)], amounts), strict=True):
        account = ledger.account(user)["id"]
        for amount in split:
            ledger.as_service("refund", account_id=account, transaction_id=capture, amount=amount)
        assert ledger.broken(user) == []
    (whole, _), (split_up, _) = histories
    assert left(ledger, split_up) == left(ledger, whole)


def test_the_debt_of_a_capture_is_taken_back_first(ledger: Ledger) -> None:
    """What lots paid for it stays spent: neither the short-lived lot nor a new one gains by the order."""
    user = ledger.sign_up()
    lot(ledger, user, 5, DAY, priority=40)
    lot(ledger, user, 5, 60 * DAY)
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=10)
    ledger.claw_back(user, 4)
    capture = ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"])
    assert ledger.account(user)["balance"] == -4
    # The clawback took four of the first lot; one of it and all of the second paid for the capture.
    for amount, balance, remaining in ((3, -1, [0, 0]), (2, 1, [0, 1]), (4, 5, [0, 5]), (1, 6, [1, 5])):
        ledger.as_service(
            "refund", account_id=hold["account_id"], transaction_id=capture["id"], amount=amount
        )
        ledger.settle(user)
        assert ledger.account(user)["balance"] == balance
        assert [row["remaining"] for row in ledger.lots(user)[:2]] == remaining
        assert [row["remaining"] for row in ledger.lots(user)[2:]] in ([0], [0, 0])
        assert ledger.broken(user) == []
