"""However many sessions reach for one balance at once, it is spent once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.support.ledger import Ledger, Refused
from tests.support.sessions import Bank, codes, successes

SESSIONS = 20
# 75 credits by the seed's prices: image_edit costs 15.
COST = {"operation": "image_edit", "quantity": 5}
INTERLEAVINGS = [
    "barrier",
    "barrier again",
    "barrier once more",
    "all queued behind the row",
    "all queued again",
]


def race(bank: Bank, user: str, functions: list[str], interleaving: str) -> list[Any]:
    calls = [
        partial(session.as_user, user, function, **COST)
        for session, function in zip(bank.sessions(len(functions)), functions, strict=True)
    ]
    return bank.all_at_once(calls, queued_behind=user if "queued" in interleaving else None)


def check_six_of_twenty(bank: Bank, user: str, answers: list[Any]) -> None:
    assert len(successes(answers)) == 6
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert codes(answers) == ["PT402"] * 14
    # Each was refused because of what was left when all six had been let through, or fewer by the time
    # it looked.
    assert all(
        r.details["required"] == 75 and r.details["shortfall"] == 75 - r.details["available"] for r in refused
    )
    assert all(r.details["available"] == 50 for r in refused)
    account = bank.owner.account(user)
    assert account["balance"] - account["held"] == 50
    bank.check()


@pytest.mark.parametrize("interleaving", INTERLEAVINGS)
@pytest.mark.parametrize("function", ["hold_credits", "consume_credits"])
def test_twenty_sessions_take_75_of_500_credits_and_six_get_them(
    bank: Bank, function: str, interleaving: str
) -> None:
    user = bank.user(500)
    answers = race(bank, user, [function] * SESSIONS, interleaving)
    check_six_of_twenty(bank, user, answers)
    if function == "consume_credits":
        assert sorted(row["balance_after"] for row in successes(answers)) == [50, 125, 200, 275, 350, 425]
        assert len(bank.ledger(user)) == 7
    else:
        assert len(bank.holds(user)) == 6


@pytest.mark.parametrize("interleaving", INTERLEAVINGS)
def test_holds_and_spends_share_the_balance(bank: Bank, interleaving: str) -> None:
    user = bank.user(500)
    answers = race(bank, user, ["hold_credits", "consume_credits"] * (SESSIONS // 2), interleaving)
    check_six_of_twenty(bank, user, answers)
    assert len(bank.holds(user)) + len(bank.ledger(user)) - 1 == 6


def test_credits_that_expired_meanwhile_are_not_spent(bank: Bank) -> None:
    """Twenty wait for the row while half of the balance expires. Only one that had found the row as it
    still is may count from before, and its ledger row is dated so; the others find the lot gone.
    """
    user = bank.owner.sign_up()
    expiry = bank.owner.value("select clock_timestamp() + interval '1 second'")
    grant = partial(bank.owner.as_service, "grant_credits", user_id=user)
    grant(amount=250, source="purchase")
    grant(amount=250, source="promo", expires_at=expiry)
    calls = [partial(session.as_user, user, "consume_credits", **COST) for session in bank.sessions(SESSIONS)]
    with ThreadPoolExecutor(1) as thread:
        with bank.locked(user, SESSIONS):
            answers = thread.submit(bank.all_at_once, calls)
            bank.until_waiting(SESSIONS)
            bank.owner.value("select pg_sleep_until(%s::timestamptz + interval '1 millisecond')", expiry)
        done = answers.result()
    spends = [row for row in bank.ledger(user) if row["kind"] == "spend"]
    before = [row for row in spends if row["created_at"] < expiry]
    assert len(before) <= 1
    assert len(spends) - len(before) == 3
    assert codes(done) == ["PT402"] * (SESSIONS - len(spends))
    assert [row["amount"] for row in bank.ledger(user) if row["kind"] == "expiry"] == [75 * len(before) - 250]
    assert bank.owner.account(user)["balance"] == 25
    bank.check()


def test_spends_among_everything_else_add_up(bank: Bank) -> None:
    """Spends, grants, expiring grants, refunds, captures and settlements on one account: what was
    acknowledged is the balance, to the credit.
    """
    user = bank.user(300)
    account_id = bank.owner.account(user)["id"]
    acknowledged = [300]
    spent: list[int] = []
    guard = threading.Lock()
    busy = threading.Event()
    busy.set()

    def note(row: dict[str, Any]) -> None:
        with guard:
            acknowledged.append(row["amount"])
            if row["amount"] < 0:
                spent.append(row["id"])

    def attempt(session: Ledger, function: str, **arguments: Any) -> dict[str, Any] | None:
        try:
            row: dict[str, Any] = (
                session.as_user(user, function, **arguments)
                if function in ("consume_credits", "hold_credits")
                else session.as_service(function, **arguments)
            )
        except Refused as refused:
            assert refused.code in ("PT402", "PT409", "PT429"), refused
            return None
        if "amount" in row and function not in ("hold_credits", "release_hold"):
            note(row)
        return row

    def spend(session: Ledger, rounds: int) -> None:
        for n in range(rounds):
            attempt(session, "consume_credits", operation="meme_generation", quantity=1 + n % 3)

    def hold(session: Ledger, rounds: int) -> None:
        for n in range(rounds):
            made = attempt(session, "hold_credits", operation="stable_diffusion", quantity=4)
            if made and n % 2:
                attempt(
                    session,
                    "capture_hold",
                    account_id=made["account_id"],
                    hold_id=made["id"],
                    quantity=1 + n % 4,
                )
            elif made:
                attempt(session, "release_hold", account_id=made["account_id"], hold_id=made["id"])

    def grant(session: Ledger, rounds: int) -> None:
        for n in range(rounds):
            soon = session.value("select clock_timestamp() + interval '500 milliseconds'") if n % 2 else None
            attempt(session, "grant_credits", user_id=user, amount=7, source="promo", expires_at=soon)

    def refund(session: Ledger, rounds: int) -> None:
        for n in range(rounds):
            with guard:
                target = spent[n * 7 % len(spent)] if spent else None
            if target:
                attempt(session, "refund", account_id=account_id, transaction_id=target)

    def settle(session: Ledger) -> None:
        while busy.is_set():
            session.value("select credits.lock_account(%s)", account_id)

    def maintain(session: Ledger) -> None:
        while busy.is_set():
            session.value("select credits.run_maintenance()")

    workers = [spend] * 6 + [hold] * 3 + [grant] * 3 + [refund] * 2
    sessions = bank.sessions(len(workers))
    with ThreadPoolExecutor(len(workers) + 3) as threads:
        loops = [
            threads.submit(settle, bank.owner_session()),
            threads.submit(maintain, bank.owner_session()),
            threads.submit(maintain, bank.owner_session()),
        ]
        work = [
            threads.submit(worker, session, 40) for worker, session in zip(workers, sessions, strict=True)
        ]
        try:
            for future in work:
                future.result()
        finally:
            busy.clear()
        for loop in loops:
            loop.result()

    bank.owner.value("select pg_sleep(0.51)")  # the last of the short-lived grants
    bank.settle()
    rows = bank.ledger(user)
    expired = sum(row["amount"] for row in rows if row["kind"] == "expiry")
    account = bank.owner.account(user)
    assert account["balance"] == sum(acknowledged) + expired == sum(row["amount"] for row in rows)
    assert len(rows) == len(acknowledged) + sum(row["kind"] == "expiry" for row in rows)
    assert account["held"] == 0
    assert min(row["balance_after"] for row in rows) >= 0
    bank.check()


@pytest.mark.parametrize("interleaving", ["barrier", "barrier again", "all queued behind the row"])
@pytest.mark.parametrize("limit", ["max_holds_per_minute", "max_open_holds"])
def test_of_twenty_holds_at_once_as_many_are_made_as_the_limit_says(
    bank: Bank, limit: str, interleaving: str
) -> None:
    bank.owner.rows(f"update credits.billing_settings set {limit} = 7")
    user = bank.user(10000)
    answers = race(bank, user, ["hold_credits"] * SESSIONS, interleaving)
    assert (len(successes(answers)), codes(answers)) == (7, ["PT429"] * 13)
    assert len(bank.holds(user)) == 7
    bank.check()
