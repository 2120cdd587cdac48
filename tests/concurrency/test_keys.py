"""One idempotency key, ten sessions: one row, ten equal answers. Also where the ten do not agree on the
request.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.support.ledger import Ledger
from tests.support.sessions import Bank, Call, codes, successes

SESSIONS = 10
KEY = "9f0c6e0e-6c2c-4c54-8f43-d5a0f4b2a1c7"
INTERLEAVINGS = ["barrier", "barrier again", "all queued"]


def spend(session: Ledger, user: str, quantity: int) -> Call:
    return partial(
        session.as_user,
        user,
        "consume_credits",
        operation="image_edit",
        quantity=quantity,
        idempotency_key=KEY,
    )


def hold(session: Ledger, user: str, quantity: int) -> Call:
    return partial(
        session.as_user, user, "hold_credits", operation="image_edit", quantity=quantity, idempotency_key=KEY
    )


def grant(session: Ledger, user: str, quantity: int) -> Call:
    return partial(
        session.as_service,
        "grant_credits",
        user_id=user,
        amount=quantity,
        source="purchase",
        idempotency_key=KEY,
    )


def run(bank: Bank, user: str, calls: list[Call], interleaving: str) -> list[Any]:
    return bank.all_at_once(calls, queued_behind=user if interleaving == "all queued" else None)


@pytest.mark.parametrize("interleaving", INTERLEAVINGS)
@pytest.mark.parametrize("request_of", [spend, hold, grant])
def test_the_same_request_from_ten_sessions_happens_once(
    bank: Bank, request_of: Any, interleaving: str
) -> None:
    user = bank.user(500)
    answers = run(
        bank, user, [request_of(session, user, 2) for session in bank.sessions(SESSIONS)], interleaving
    )
    assert answers == [answers[0]] * SESSIONS
    assert answers[0]["idempotency_key"] == KEY
    assert len(bank.ledger(user)) - 1 + len(bank.holds(user)) == 1
    bank.check()


@pytest.mark.parametrize("interleaving", INTERLEAVINGS)
@pytest.mark.parametrize("request_of", [spend, hold, grant])
def test_ten_different_requests_with_one_key(bank: Bank, request_of: Any, interleaving: str) -> None:
    user = bank.user(5000)
    calls = [request_of(session, user, 1 + n) for n, session in enumerate(bank.sessions(SESSIONS))]
    answers = run(bank, user, calls, interleaving)
    assert len(successes(answers)) == 1
    assert codes(answers) == ["PT409"] * (SESSIONS - 1)
    assert len(bank.ledger(user)) - 1 + len(bank.holds(user)) == 1
    bank.check()


@pytest.mark.parametrize("interleaving", INTERLEAVINGS)
def test_a_spend_and_a_hold_with_one_key(bank: Bank, interleaving: str) -> None:
    user = bank.user(500)
    calls = [(spend, hold)[n % 2](session, user, 2) for n, session in enumerate(bank.sessions(SESSIONS))]
    answers = run(bank, user, calls, interleaving)
    done = successes(answers)
    assert done == [done[0]] * (SESSIONS // 2)
    assert codes(answers) == ["PT409"] * (SESSIONS // 2)
    assert len(bank.ledger(user)) - 1 + len(bank.holds(user)) == 1
    bank.check()


@pytest.mark.parametrize("interleaving", INTERLEAVINGS)
def test_a_refund_with_one_key(bank: Bank, interleaving: str) -> None:
    user = bank.user(500)
    spent = bank.owner.as_user(user, "consume_credits", operation="image_edit", quantity=2)
    names = {"account_id": spent["account_id"], "transaction_id": spent["id"]}
    calls: list[Call] = [
        partial(session.as_service, "refund", **names, amount=10, idempotency_key=KEY)
        for session in bank.sessions(SESSIONS)
    ]
    answers = run(bank, user, calls, interleaving)
    assert answers == [answers[0]] * SESSIONS
    assert [row["kind"] for row in bank.ledger(user)] == ["grant", "spend", "refund"]
    bank.check()


@pytest.mark.parametrize("interleaving", INTERLEAVINGS)
def test_refunds_without_a_key_do_not_exceed_the_spend(bank: Bank, interleaving: str) -> None:
    user = bank.user(500)
    spent = bank.owner.as_user(user, "consume_credits", operation="image_edit", quantity=2)
    names = {"account_id": spent["account_id"], "transaction_id": spent["id"]}
    calls: list[Call] = [
        partial(session.as_service, "refund", **names, amount=10) for session in bank.sessions(SESSIONS)
    ]
    answers = run(bank, user, calls, interleaving)
    assert len(successes(answers)) == 3
    assert codes(answers) == ["PT409"] * (SESSIONS - 3)
    assert bank.owner.account(user)["balance"] == 500
    bank.check()


@pytest.mark.parametrize("interleaving", INTERLEAVINGS)
@pytest.mark.parametrize("function", ["capture_hold", "release_hold"])
def test_a_hold_ends_once(bank: Bank, function: str, interleaving: str) -> None:
    user = bank.user(500)
    made = bank.owner.as_user(user, "hold_credits", operation="image_edit", quantity=5)
    names = {"account_id": made["account_id"], "hold_id": made["id"]}
    calls: list[Call] = [partial(s.as_service, function, **names) for s in bank.sessions(SESSIONS)]
    answers = run(bank, user, calls, interleaving)
    assert answers == [answers[0]] * SESSIONS
    account = bank.owner.account(user)
    assert (account["balance"], account["held"]) == (425 if function == "capture_hold" else 500, 0)
    bank.check()


@pytest.mark.parametrize("interleaving", INTERLEAVINGS)
def test_a_hold_is_captured_or_released_not_both(bank: Bank, interleaving: str) -> None:
    user = bank.user(500)
    made = bank.owner.as_user(user, "hold_credits", operation="image_edit", quantity=5)
    names = {"account_id": made["account_id"], "hold_id": made["id"]}
    calls: list[Call] = [
        partial(s.as_service, ("capture_hold", "release_hold")[n % 2], **names)
        for n, s in enumerate(bank.sessions(SESSIONS))
    ]
    answers = run(bank, user, calls, interleaving)
    assert codes(answers) == ["PT409"] * (SESSIONS // 2)
    status = bank.holds(user)[0]["status"]
    assert bank.owner.account(user)["balance"] == {"captured": 425, "released": 500}[status]
    bank.check()


def test_a_key_is_free_again_after_a_refusal(bank: Bank) -> None:
    """Ten ask for more than there is with one key; then there is enough, and ten get the one spend."""
    user = bank.user(20)
    sessions = bank.sessions(SESSIONS)
    assert codes(bank.all_at_once([spend(session, user, 2) for session in sessions])) == ["PT402"] * SESSIONS
    bank.owner.as_service("grant_credits", user_id=user, amount=10, source="purchase")
    answers = bank.all_at_once([spend(session, user, 2) for session in sessions])
    assert answers == [answers[0]] * SESSIONS
    assert bank.owner.account(user)["balance"] == 0
    bank.check()


def test_repeats_that_waited_and_the_deletion_of_their_user_do_not_block_each_other(bank: Bank) -> None:
    """A second UPDATE of the account in one call would look for the user again, whom the deletion has
    locked.
    """
    user = bank.user(500)
    deletion = bank.owner_session()
    calls = [spend(session, user, 2) for session in bank.sessions(2)]
    with ThreadPoolExecutor(2) as threads:
        with bank.locked(user, 3):
            answers = threads.submit(bank.all_at_once, calls)
            bank.until_waiting(2)
            deleted = threads.submit(deletion.rows, "delete from auth.users where id = %s returning id", user)
        assert deleted.result()
        # A repeat that comes after the deletion finds no user.
        first, *others = successes(answers.result())
        assert first["idempotency_key"] == KEY
        assert others == [first] or codes(answers.result()) == ["PT404"]
    bank.check()
