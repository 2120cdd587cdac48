"""What was paid for a lot goes with its credits."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.support.clock import MINUTE
from tests.support.ledger import Ledger, Refused
from tests.support.rest import Api
from tests.support.stack import User


def grant(
    ledger: Ledger, user: str, amount: int = 10, source: str = "purchase", **more: Any
) -> dict[str, Any]:
    row: dict[str, Any] = ledger.as_service(
        "grant_credits", user_id=user, amount=amount, source=source, **more
    )
    return row


def costs(ledger: Ledger, user: str) -> list[tuple[int | None, str | None]]:
    """Cost basis and currency of the lots, oldest first."""
    return [(row["cost_basis"], row["currency"]) for row in ledger.lots(user)]


def test_lots_know_what_was_paid_for_them(ledger: Ledger) -> None:
    user = ledger.sign_up()
    grant(ledger, user)
    grant(ledger, user, cost_basis=999, currency="EUR")
    grant(ledger, user, cost_basis=0)
    grant(ledger, user, cost_basis=0, currency="usd")
    for source in ("bonus", "promo", "referral"):
        grant(ledger, user, source=source)
    assert costs(ledger, user) == [(None, None), (999, "eur"), (0, None), (0, "usd"), *[(0, None)] * 3]
    assert ledger.broken(user) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost_basis": -1, "currency": "usd"}, "cost_basis must be from 0 to a quadrillion"),
        ({"cost_basis": 10**15 + 1, "currency": "usd"}, "cost_basis must be from 0 to a quadrillion"),
        ({"cost_basis": 5}, "come together"),
        ({"currency": "usd"}, "come together"),
        ({"cost_basis": 5, "currency": "dollars"}, "currency must be an ISO 4217 code"),
        ({"cost_basis": 5, "currency": ""}, "currency must be an ISO 4217 code"),
        ({"cost_basis": 5, "currency": "usd", "source": "promo"}, "A promo was not paid for"),
    ],
)
def test_costs_that_cannot_be(ledger: Ledger, arguments: dict[str, Any], message: str) -> None:
    user = ledger.sign_up()
    with pytest.raises(Refused, match=message) as caught:
        grant(ledger, user, **arguments)
    assert caught.value.code == "PT400"
    assert caught.value.hint
    assert ledger.lots(user) == []


def test_a_repeat_with_another_cost_is_another_request(ledger: Ledger) -> None:
    user = ledger.sign_up()
    first = grant(ledger, user, cost_basis=5, currency="usd", idempotency_key="k")
    assert grant(ledger, user, cost_basis=5, currency="USD", idempotency_key="k") == first
    others: list[dict[str, Any]] = [
        {"cost_basis": 6, "currency": "usd"},
        {"cost_basis": 5, "currency": "eur"},
        {},
    ]
    for other in others:
        with pytest.raises(Refused, match="PT409"):
            grant(ledger, user, idempotency_key="k", **other)
    given = grant(ledger, user, source="promo", idempotency_key="p")
    assert grant(ledger, user, source="promo", idempotency_key="p") == given
    assert grant(ledger, user, source="promo", idempotency_key="p", cost_basis=0) == given


@pytest.mark.parametrize("parts", [[10], [3, 3, 4], [1] * 10, [4, 1]])
def test_a_refund_after_expiry_takes_its_share_along(ledger: Ledger, parts: list[int]) -> None:
    """All parts together have what the lot had, to the cent, however it is cut."""
    user = ledger.sign_up()
    grant(ledger, user, expires_at=ledger.now() + MINUTE, cost_basis=1000003, currency="jpy")
    spent = ledger.as_user(user, "consume_credits", operation="one", quantity=10)
    ledger.pass_time(2 * MINUTE)
    for part in parts:
        ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"], amount=part)
    shares = [basis for basis, currency in costs(ledger, user)[1:] if currency == "jpy"]
    assert len(shares) == len(parts)
    assert sum(filter(None, shares)) == 1000003 * sum(parts) // 10
    assert all(abs((share or 0) - 1000003 * part / 10) < 1 for share, part in zip(shares, parts, strict=True))
    # Spent and refunded once more, after the grace: what the refund lots have goes on.
    again = ledger.as_user(user, "consume_credits", operation="one", quantity=sum(parts))
    ledger.pass_time(timedelta(days=31))
    ledger.as_service("refund", account_id=again["account_id"], transaction_id=again["id"])
    assert sum(basis or 0 for basis, _ in costs(ledger, user)[1 + len(parts) :]) == sum(filter(None, shares))
    assert ledger.broken(user) == []


def test_what_is_unknown_stays_unknown(ledger: Ledger) -> None:
    user = ledger.sign_up()
    grant(ledger, user, expires_at=ledger.now() + MINUTE)
    spent = ledger.as_user(user, "consume_credits", operation="one", quantity=10)
    ledger.pass_time(2 * MINUTE)
    ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"])
    assert costs(ledger, user) == [(None, None), (None, None)]


def test_a_debt_that_is_refunded_cost_nothing(ledger: Ledger) -> None:
    user = ledger.sign_up()
    grant(ledger, user, cost_basis=700, currency="usd")
    spent = ledger.as_user(user, "consume_credits", operation="one", quantity=10)
    taken = ledger.claw_back(user, 10)
    ledger.value("select credits.give_back(%s, %s, 4)", taken["account_id"], taken["id"])
    assert costs(ledger, user)[1:] == [(0, None)]
    ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"])
    assert ledger.broken(user) == []


def test_through_the_api(operator: Api, user: Callable[..., User]) -> None:
    made = operator.ok(
        "grant_credits", user_id=user().id, amount=5, source="purchase", cost_basis=499, currency="usd"
    )
    assert made["amount"] == 5
