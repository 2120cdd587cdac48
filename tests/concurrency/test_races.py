"""Two things at once that must not get into each other's way."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.support.ledger import Ledger, Refused
from tests.support.sessions import Bank, Call, codes, successes

NEW_USER = "insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())"


def accounts(bank: Bank, user: str) -> int:
    count: int = bank.owner.value("select count(*) from public.credit_accounts where user_id = %s", user)
    return count


def test_first_calls_of_a_user_without_an_account(bank: Bank) -> None:
    """The trigger failed at sign-up, say. Ten first calls of all kinds open one account with one bonus."""
    bank.owner.rows("update credits.billing_settings set signup_bonus = 100")
    bank.owner.rows(
        "alter table public.credit_accounts add constraint refused check (user_id is null) not valid"
    )
    user = bank.owner.sign_up()
    bank.owner.rows("alter table public.credit_accounts drop constraint refused")
    assert accounts(bank, user) == 0

    calls: list[Call] = []
    for n, session in enumerate(bank.sessions(10)):
        calls.append(
            [
                partial(session.as_user, user, "consume_credits", operation="stable_diffusion"),
                partial(
                    session.as_user,
                    user,
                    "consume_credits",
                    operation="stable_diffusion",
                    idempotency_key=f"k{n}",
                ),
                partial(session.as_user, user, "hold_credits", operation="stable_diffusion"),
                partial(session.as_service, "grant_credits", user_id=user, amount=50, source="purchase"),
                partial(session.as_service, "freeze_account", user_id=user, reason="a test"),
            ][n % 5]
            if n != 9
            else partial(session.as_service, "unfreeze_account", user_id=user)
        )
    answers = bank.all_at_once(calls)
    assert set(codes(answers)) <= {"PT403"}  # frozen already
    assert accounts(bank, user) == 1
    grants = [row["amount"] for row in bank.ledger(user) if row["kind"] == "grant"]
    assert sorted(grants) == [50, 50, 100]
    bank.check()


@pytest.mark.parametrize("signs_up", [True, False])
@pytest.mark.parametrize("key", [None, "a key"])
def test_the_sign_up_and_the_first_call_open_one_account(bank: Bank, key: str | None, signs_up: bool) -> None:
    """The call comes while the sign-up, trigger included, is not committed: it waits and finds what becomes
    of it.
    """
    bank.owner.rows("update credits.billing_settings set signup_bonus = 100")
    user = str(uuid.uuid4())
    session = bank.sessions(1)[0]
    sign_up = bank.owner_session().connection
    with ThreadPoolExecutor(1) as thread:
        sign_up.execute("begin")
        sign_up.execute(NEW_USER, (user, f"{user}@example.com"))
        first = thread.submit(
            session.as_user, user, "consume_credits", operation="stable_diffusion", idempotency_key=key
        )
        bank.until_waiting(1)
        sign_up.execute("commit" if signs_up else "rollback")
        if signs_up:
            assert first.result()["balance_after"] == 97
        else:
            with pytest.raises(Refused) as refused:
                first.result()
            assert refused.value.code == "PT404"
    assert accounts(bank, user) == int(signs_up)
    bank.check()


def test_two_maintenances_at_once_while_spends_go_on(bank: Bank) -> None:
    users = [bank.user(10_000) for _ in range(12)]
    rounds = 60
    busy = threading.Event()
    busy.set()

    def spend(session: Ledger, number: int) -> int:
        for n in range(rounds):
            session.as_user(users[(number + n) % len(users)], "consume_credits", operation="stable_diffusion")
        return 3 * rounds

    def maintain(session: Ledger) -> int:
        settled = 0
        while busy.is_set():
            settled += session.value("select credits.run_maintenance(batch => 5)")["settled"]
        return settled

    with ThreadPoolExecutor(8) as threads:
        maintenances = [threads.submit(maintain, bank.owner_session()) for _ in range(2)]
        spends = [threads.submit(spend, session, n) for n, session in enumerate(bank.sessions(6))]
        try:
            total = sum(future.result() for future in spends)
        finally:
            busy.clear()
        assert all(maintenance.result() > 0 for maintenance in maintenances)
    assert sum(bank.owner.account(user)["balance"] for user in users) == 12 * 10_000 - total
    bank.check()


def test_maintenance_passes_by_an_account_that_is_locked(bank: Bank) -> None:
    busy_user, other = bank.user(10), bank.user(10)
    for user in (busy_user, other):
        bank.owner.as_user(user, "consume_credits", operation="stable_diffusion")
    maintenance = bank.owner_session()
    with bank.locked(busy_user, 0):
        assert maintenance.value("select credits.run_maintenance()")["settled"] == 1
        assert bank.owner.account(other)["unsettled_since"] is None
        assert bank.owner.account(busy_user)["unsettled_since"] is not None
    assert maintenance.value("select credits.run_maintenance()")["settled"] == 1
    bank.check()


def test_nothing_is_spent_after_a_freeze_has_returned(bank: Bank) -> None:
    user = bank.user(1_000_000)
    started = threading.Barrier(9)

    def spend(session: Ledger, function: str) -> list[Any]:
        done: list[Any] = []
        started.wait()
        while len(done) < 2000:
            try:
                done.append(session.as_user(user, function, operation="stable_diffusion")["id"])
            except Refused as refused:
                assert refused.code == "PT403"
                return done
        raise AssertionError("2000 calls, and none was refused")

    def written() -> int:
        return len(bank.ledger(user)) + len(bank.holds(user))

    with ThreadPoolExecutor(8) as threads:
        spends = [
            threads.submit(spend, session, ("consume_credits", "hold_credits")[n % 2])
            for n, session in enumerate(bank.sessions(8))
        ]
        started.wait()
        while written() < 50:
            pass
        bank.owner.as_service("freeze_account", user_id=user, reason="a test")
        at_freeze = written()
        acknowledged = sum(len(future.result()) for future in spends)
    assert written() == at_freeze == acknowledged + 1
    bank.check()


def test_a_spend_that_waited_behind_a_freeze_is_refused(bank: Bank) -> None:
    user = bank.user(100)
    freeze = bank.owner_session()
    calls: list[Call] = [
        partial(session.as_user, user, "consume_credits", operation="stable_diffusion")
        for session in bank.sessions(5)
    ]
    with ThreadPoolExecutor(1) as thread:
        with freeze.connection.transaction():
            freeze.connection.execute("select public.freeze_account(%s, 'a test')", (user,))
            answers = thread.submit(bank.all_at_once, calls)
            bank.until_waiting(5)
        assert codes(answers.result()) == ["PT403"] * 5
    assert bank.owner.account(user)["balance"] == 100
    bank.check()


def test_a_price_change_while_spends_wait_counts_from_the_next_call(bank: Bank) -> None:
    """A call looks its price up before it waits for the account, and keeps it: quantity times the price in
    its row.
    """
    user = bank.user(1000)
    calls: list[Call] = [
        partial(session.as_user, user, "consume_credits", operation="stable_diffusion")
        for session in bank.sessions(10)
    ]
    with ThreadPoolExecutor(1) as thread:
        with bank.locked(user, 10):
            answers = thread.submit(bank.all_at_once, calls)
            bank.until_waiting(10)
            bank.owner.rows(
                "update public.pricing_tiers set credits_per_unit = 4 where operation = 'stable_diffusion'"
            )
        old = successes(answers.result())
    assert [row["amount"] for row in old] == [-3] * 10
    assert len({row["price_version"] for row in old}) == 1
    new = bank.owner.as_user(user, "consume_credits", operation="stable_diffusion")
    assert (new["amount"], new["price_version"] > old[0]["price_version"]) == (-4, True)
    bank.owner.rows(
        "update public.pricing_tiers set credits_per_unit = 3 where operation = 'stable_diffusion'"
    )
    bank.check()


def test_a_grant_whose_expiry_comes_while_it_waits_for_the_account(bank: Bank) -> None:
    """It is granted and expires, or it is refused as one that comes too late: no error of the tables."""
    user = bank.user(100)
    session = bank.sessions(1)[0]
    expiry = bank.owner.value("select clock_timestamp() + interval '0.3 seconds'")
    with ThreadPoolExecutor(1) as thread:
        with bank.locked(user, 1):
            grant = thread.submit(
                session.as_service,
                "grant_credits",
                user_id=user,
                amount=7,
                source="promo",
                expires_at=expiry,
            )
            bank.until_waiting(1)
            bank.owner.value("select pg_sleep_until(%s::timestamptz)", expiry)
        try:
            grant.result()
        except Refused as refused:
            assert refused.code == "PT400"
    bank.settle()
    assert bank.owner.account(user)["balance"] == 100
    bank.check()
