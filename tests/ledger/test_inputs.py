"""Nonsense from outside: the answer's status, code, sentence and figures; and nothing is left behind."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.rest import Api
from tests.support.stack import Env, User

SPEND = {"operation": "meme_generation"}
GRANT = {"amount": 5, "source": "promo"}
NOBODY = str(uuid.UUID(int=1))
# PostgREST's own answers to what is not of the argument's type.
NOT_A_NUMBER = ("22P02", "invalid input syntax for type integer")
TOO_BIG = ("22003", "out of range for type integer")
QUANTITY = ("PT400", "quantity must be a whole number from 1 to 10000.")
METADATA = ("PT400", "metadata must be a JSON object.")
KEY = ("PT400", "idempotency_key must have 1 to 255 characters.")

SPENDS = [
    ({"quantity": 0}, QUANTITY, {"quantity": 0, "limit": 10000}),
    ({"quantity": -1}, QUANTITY, {"quantity": -1, "limit": 10000}),
    ({"quantity": None}, QUANTITY, {"quantity": None, "limit": 10000}),
    ({"quantity": 10001}, QUANTITY, {"quantity": 10001, "limit": 10000}),
    ({"quantity": 1.5}, NOT_A_NUMBER, None),
    ({"quantity": "x"}, NOT_A_NUMBER, None),
    ({"quantity": [1]}, NOT_A_NUMBER, None),
    ({"quantity": 2**31}, TOO_BIG, None),
    ({"quantity": 10**30}, TOO_BIG, None),
    ({"metadata": []}, METADATA, {}),
    ({"metadata": "text"}, METADATA, {}),
    ({"metadata": None}, METADATA, {}),
    (
        {"metadata": {"x": "y" * 8184}},
        ("PT400", "metadata is larger than 8 KiB."),
        {"bytes": 8193, "limit": 8192},
    ),
    ({"operation": "no_such"}, ("PT404", "There is no such operation."), {"operation": "no_such"}),
    ({"operation": None}, ("PT404", "There is no such operation."), {"operation": None}),
    ({"idempotency_key": ""}, KEY, {}),
    ({"idempotency_key": "k" * 256}, KEY, {}),
    ({"idempotency_key": "sys:bonus"}, ("PT400", 'Keys that start with "sys:" are reserved.'), {}),
]
TTL = ("PT400", "ttl must be from 1 second to 24:00:00.")
HOLDS = [
    ({"ttl": "0"}, TTL, {"ttl": "00:00:00", "limit": "24:00:00"}),
    ({"ttl": "-5 minutes"}, TTL, {"ttl": "-00:05:00", "limit": "24:00:00"}),
    ({"ttl": "24 hours 1 second"}, TTL, {"ttl": "24:00:01", "limit": "24:00:00"}),
    ({"ttl": "999999 microseconds"}, TTL, {"ttl": "00:00:00.999999", "limit": "24:00:00"}),
    # As an interval a day, as a moment a year and a half.
    ({"ttl": "100 years -35999 days"}, TTL, {"ttl": "100 years -35999 days", "limit": "24:00:00"}),
    ({"ttl": "300000 years"}, TTL, {"ttl": "300000 years", "limit": "24:00:00"}),
    ({"ttl": "2000000 years -730000000 days"}, TTL, None),
    ({"ttl": "soon"}, ("22007", "invalid input syntax for type interval"), None),
]
AMOUNT = ("PT400", "amount must be a whole number of credits from 1 to 1000000000.")
EXPIRY = ("PT400", "expires_at must be in the future.")
SOURCE = ("PT400", "source must be purchase, subscription, bonus, referral, promo or refund.")
PRIORITY = ("PT400", "priority must be from 0 (burns first) to 100.")
GRANTS = [
    *[({"amount": n}, AMOUNT, {"amount": n, "limit": 10**9}) for n in (0, -5, None, 10**9 + 1, 10**18)],
    ({"amount": 10**19}, ("22003", "out of range for type bigint"), None),
    ({"amount": 1.5}, ("22P02", "invalid input syntax for type bigint"), None),
    ({"expires_at": "2020-01-01T00:00:00Z"}, EXPIRY, {"expires_at": "2020-01-01T00:00:00+00:00"}),
    ({"expires_at": "infinity"}, EXPIRY, {"expires_at": "infinity"}),
    ({"expires_at": "-infinity"}, EXPIRY, {"expires_at": "-infinity"}),
    ({"source": "thin air"}, SOURCE, {"source": "thin air"}),
    ({"source": None}, SOURCE, {"source": None}),
    ({"priority": 101}, PRIORITY, {"priority": 101}),
    ({"priority": -1}, PRIORITY, {"priority": -1}),
    ({"priority": 40000}, PRIORITY, {"priority": 40000}),
    ({"metadata": [1]}, METADATA, {}),
    ({"idempotency_key": "sys:signup_bonus"}, ("PT400", 'Keys that start with "sys:" are reserved.'), {}),
    (
        {"user_id": str(uuid.UUID(int=7))},
        ("PT404", "There is no such user."),
        {"user_id": str(uuid.UUID(int=7))},
    ),
    ({"user_id": None}, ("PT404", "There is no such user."), {"user_id": None}),
]
Case = tuple[dict[str, Any], tuple[str, str], Any]


def name(case: Case) -> str:
    return json.dumps(case[0])[:50]


@pytest.fixture(scope="module")
def shopper(env: Env, operator: Api) -> tuple[Api, str]:
    """A user with 1,000 credits more than the bonus, for all cases: a refusal changes nothing."""
    client = env.client()
    answer = client.auth.sign_up({"email": f"{uuid.uuid4().hex}@example.com", "password": "correct horse"})
    assert answer.user and answer.session
    headers = {"apikey": env.publishable_key, "Authorization": f"Bearer {answer.session.access_token}"}
    operator.ok("grant_credits", user_id=answer.user.id, amount=1000, source="promo")
    return Api(env.api_url, headers), answer.user.id


def refused(caller: Api, function: str, good: dict[str, Any], case: Case, balance: Callable[[], Any]) -> None:
    """The call is refused as the case says and leaves nothing; then the same key does good."""
    bad, (code, message), details = case
    key = bad.get("idempotency_key", str(uuid.uuid4()))
    before = balance()
    answer = caller.rpc(function, **{**good, "idempotency_key": key, **bad})
    assert answer.status == int(code[2:]) if code.startswith("PT") else 400
    assert answer.code == code
    assert message in answer.body["message"]
    if details is not None:
        assert answer.details == details
        assert answer.body["hint"]
    assert balance() == before
    if "idempotency_key" not in bad:
        row = caller.ok(function, **{**good, "idempotency_key": key})
        assert row["idempotency_key"] == key


@pytest.mark.parametrize("case", SPENDS, ids=name)
def test_a_spend_is_refused(shopper: tuple[Api, str], case: Case) -> None:
    caller, _ = shopper
    refused(caller, "consume_credits", SPEND, case, lambda: caller.ok("my_credits"))


@pytest.mark.parametrize("case", [*SPENDS, *HOLDS], ids=name)
def test_a_hold_is_refused(shopper: tuple[Api, str], case: Case) -> None:
    caller, _ = shopper
    refused(caller, "hold_credits", SPEND, case, lambda: caller.ok("my_credits"))


def test_no_hold_lives_for_ever(shopper: tuple[Api, str]) -> None:
    answer = shopper[0].rpc("hold_credits", **SPEND, ttl="infinity")
    # Before version 17 Postgres knows no infinite interval.
    assert (answer.status, answer.code) in ((400, "PT400"), (400, "22007"))


@pytest.mark.parametrize("case", GRANTS, ids=name)
def test_a_grant_is_refused(shopper: tuple[Api, str], operator: Api, case: Case) -> None:
    caller, user_id = shopper
    refused(operator, "grant_credits", {**GRANT, "user_id": user_id}, case, lambda: caller.ok("my_credits"))


@pytest.mark.parametrize("quantity", [0, -1, None, 10001])
def test_a_quote_is_refused(shopper: tuple[Api, str], quantity: int | None) -> None:
    answer = shopper[0].rpc("quote_credits", operation="meme_generation", quantity=quantity)
    assert (answer.status, answer.code) == (400, "PT400")
    assert answer.details == {"quantity": quantity, "limit": 10000}


def test_metadata_of_exactly_8_kib_is_taken(shopper: tuple[Api, str]) -> None:
    caller, _ = shopper
    row = caller.ok("consume_credits", **SPEND, metadata={"x": "y" * 8183})
    assert len(row["metadata"]["x"]) == 8183


def test_a_missing_operation_names_no_function(shopper: tuple[Api, str]) -> None:
    answer = shopper[0].rpc("consume_credits", quantity=1)
    assert (answer.status, answer.code) == (404, "PGRST202")


def test_refunds_that_are_refused(shopper: tuple[Api, str], operator: Api) -> None:
    caller, user_id = shopper
    spent = caller.ok("consume_credits", **SPEND, quantity=2)
    granted = operator.ok("grant_credits", **GRANT, user_id=user_id)
    before = caller.ok("my_credits")
    figures = {"transaction_id": spent["id"], "spent": 10, "refundable": 10}
    for arguments, status, details in (
        ({"amount": 11}, 400, {**figures, "amount": 11}),
        ({"amount": 0}, 400, {**figures, "amount": 0}),
        ({"amount": -1}, 400, {**figures, "amount": -1}),
        ({"reason": "x" * 501}, 400, {}),
        ({"idempotency_key": "sys:refund"}, 400, {}),
        ({"transaction_id": granted["id"]}, 409, {"transaction_id": granted["id"], "kind": "grant"}),
        ({"transaction_id": 2**62}, 404, {"account_id": spent["account_id"], "transaction_id": 2**62}),
        ({"transaction_id": None}, 404, {"account_id": spent["account_id"], "transaction_id": None}),
        ({"account_id": None}, 404, {"account_id": None, "transaction_id": spent["id"]}),
        ({"account_id": NOBODY}, 404, {"account_id": NOBODY, "transaction_id": spent["id"]}),
    ):
        answer = operator.rpc(
            "refund",
            **{
                "account_id": spent["account_id"],
                "transaction_id": spent["id"],
                "idempotency_key": "again",
                **arguments,
            },
        )
        assert (answer.status, answer.code) == (status, f"PT{status}"), arguments
        assert answer.details == details
    assert caller.ok("my_credits") == before
    # The key of the refused ones is free.
    assert (
        operator.ok(
            "refund", account_id=spent["account_id"], transaction_id=spent["id"], idempotency_key="again"
        )["amount"]
        == 10
    )
    answer = operator.rpc("refund", account_id=spent["account_id"], transaction_id=spent["id"])
    assert (answer.status, answer.details) == (
        409,
        {"transaction_id": spent["id"], "spent": 10, "refundable": 0},
    )


def test_captures_that_are_refused(shopper: tuple[Api, str], operator: Api) -> None:
    caller, _ = shopper
    before = caller.ok("my_credits")["held"]
    hold = caller.ok("hold_credits", **SPEND, quantity=3)
    for quantity in (4, 0, -1):
        answer = operator.rpc(
            "capture_hold", account_id=hold["account_id"], hold_id=hold["id"], quantity=quantity
        )
        assert (answer.status, answer.details) == (400, {"quantity": quantity, "held": 3})
    assert (
        operator.rpc("capture_hold", account_id=hold["account_id"], hold_id=hold["id"], metadata=[]).status
        == 400
    )
    assert caller.ok("my_credits")["held"] == before + 15
    captured = operator.ok("capture_hold", account_id=hold["account_id"], hold_id=hold["id"], quantity=2)
    answer = operator.rpc("capture_hold", account_id=hold["account_id"], hold_id=hold["id"], quantity=3)
    assert (answer.status, answer.details) == (409, {"hold_id": hold["id"], "captured": 2, "quantity": 3})
    answer = operator.rpc("release_hold", account_id=hold["account_id"], hold_id=hold["id"])
    assert (answer.status, answer.details) == (409, {"hold_id": hold["id"], "transaction_id": captured["id"]})

    released = caller.ok("hold_credits", **SPEND)
    operator.ok("release_hold", account_id=released["account_id"], hold_id=released["id"])
    answer = operator.rpc("capture_hold", account_id=released["account_id"], hold_id=released["id"])
    assert (answer.status, answer.code, answer.details["status"]) == (409, "PT409", "released")

    for function in ("capture_hold", "release_hold"):
        for account_id, hold_id in ((hold["account_id"], NOBODY), (NOBODY, hold["id"]), (None, hold["id"])):
            answer = operator.rpc(function, account_id=account_id, hold_id=hold_id)
            assert (answer.status, answer.code) == (404, "PT404")
            assert answer.details == {"account_id": account_id, "hold_id": hold_id}
    assert (
        operator.rpc(
            "release_hold", account_id=hold["account_id"], hold_id=hold["id"], reason="x" * 501
        ).status
        == 400
    )


def test_users_cannot_call_the_operators_functions(user: Callable[..., User], env: Env) -> None:
    me = user()
    caller = Api(env.api_url, me.headers(env))
    for function, arguments in (
        ("grant_credits", {"user_id": me.id, **GRANT}),
        ("refund", {"account_id": NOBODY, "transaction_id": 1}),
        ("capture_hold", {"account_id": NOBODY, "hold_id": NOBODY}),
        ("release_hold", {"account_id": NOBODY, "hold_id": NOBODY}),
        ("freeze_account", {"user_id": me.id, "reason": "x"}),
        ("unfreeze_account", {"user_id": me.id}),
        ("verify_ledger", {}),
    ):
        answer = caller.rpc(function, **arguments)
        assert (answer.status, answer.code) == (403, "42501"), function
