"""Idempotency keys: the first answer again, or PT409; a refusal leaves the key free."""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.ledger import Ledger, Refused, buyer


def test_a_repeat_gets_the_first_answer(ledger: Ledger) -> None:
    user = buyer(ledger, 100)
    request: dict[str, Any] = {"operation": "one", "quantity": 2, "idempotency_key": "key"}
    first = ledger.as_user(user, "consume_credits", **request)
    ledger.as_user(user, "consume_credits", operation="one")
    ledger.pass_time(timedelta(days=1))
    assert ledger.as_user(user, "consume_credits", **request) == first
    assert ledger.account(user)["balance"] == 97


@pytest.mark.parametrize(
    "change", [{"operation": "fraction"}, {"quantity": 3}, {"operation": "no_such"}, {"quantity": 0}]
)
def test_another_request_with_the_key_is_refused(ledger: Ledger, change: dict[str, Any]) -> None:
    user = buyer(ledger, 100)
    request: dict[str, Any] = {"operation": "one", "quantity": 2, "idempotency_key": "key"}
    ledger.as_user(user, "consume_credits", **request)
    for function in ("consume_credits", "hold_credits"):
        with pytest.raises(Refused) as caught:
            ledger.as_user(user, function, **{**request, **change})
        assert caught.value.code == "PT409"
        assert caught.value.details == {"idempotency_key": "key"}
    assert ledger.account(user)["balance"] == 98


def test_one_key_serves_one_call_of_any_kind(ledger: Ledger) -> None:
    user = buyer(ledger, 100)
    spent = ledger.as_user(user, "consume_credits", operation="one", idempotency_key="spend")
    ledger.as_user(user, "hold_credits", operation="one", idempotency_key="hold")
    ledger.as_service("grant_credits", user_id=user, amount=1, source="promo", idempotency_key="grant")
    for key in ("spend", "hold", "grant"):
        with pytest.raises(Refused, match="PT409"):
            ledger.as_service(
                "refund", account_id=spent["account_id"], transaction_id=spent["id"], idempotency_key=key
            )
        with pytest.raises(Refused, match="PT409"):
            ledger.claw_back(user, 1, key=key)
        if key != "hold":
            with pytest.raises(Refused, match="PT409"):
                ledger.as_user(user, "hold_credits", operation="one", idempotency_key=key)
    assert ledger.account(user)["balance"] == 100


def test_keys_are_each_accounts_own(ledger: Ledger) -> None:
    users = [buyer(ledger, 10) for _ in range(2)]
    rows = [
        ledger.as_user(user, "consume_credits", operation="one", idempotency_key="mine") for user in users
    ]
    assert [row["account_id"] for row in rows] == [str(ledger.account(user)["id"]) for user in users]
    assert [ledger.account(user)["balance"] for user in users] == [9, 9]


def test_a_refusal_leaves_the_key_free(ledger: Ledger) -> None:
    user = ledger.sign_up()
    with pytest.raises(Refused, match="PT402"):
        ledger.as_user(user, "consume_credits", operation="one", idempotency_key="key")
    with pytest.raises(Refused, match="PT404"):
        ledger.as_user(user, "consume_credits", operation="no_such", idempotency_key="key")
    ledger.as_service("grant_credits", user_id=user, amount=5, source="promo")
    # Another request than the one that was refused, too.
    assert (
        ledger.as_user(user, "hold_credits", operation="one", quantity=5, idempotency_key="key")["amount"]
        == 5
    )


def test_a_repeated_hold_is_told_as_it_is_now(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    hold = ledger.as_user(user, "hold_credits", operation="one", idempotency_key="key")
    ledger.as_service("release_hold", account_id=hold["account_id"], hold_id=hold["id"])
    again = ledger.as_user(user, "hold_credits", operation="one", idempotency_key="key")
    assert (again["id"], again["status"]) == (hold["id"], "released")


def test_metadata_and_refunds_count_as_part_of_the_request(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    request: dict[str, Any] = {"operation": "one", "quantity": 4, "idempotency_key": "key"}
    spent = ledger.as_user(user, "consume_credits", **request)
    with pytest.raises(Refused, match="PT409"):
        ledger.as_user(user, "hold_credits", **request)
    refund = ledger.as_service(
        "refund", account_id=spent["account_id"], transaction_id=spent["id"], amount=1, idempotency_key="back"
    )
    assert (
        ledger.as_service(
            "refund",
            account_id=spent["account_id"],
            transaction_id=spent["id"],
            amount=1,
            idempotency_key="back",
        )
        == refund
    )
    with pytest.raises(Refused, match="PT409"):
        ledger.as_service(
            "refund",
            account_id=spent["account_id"],
            transaction_id=spent["id"],
            amount=2,
            idempotency_key="back",
        )
    clawed = ledger.claw_back(user, 1, key="claw")
    assert ledger.claw_back(user, 1, key="claw") == clawed
    assert ledger.account(user)["balance"] == 6
