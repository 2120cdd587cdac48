"""credits.run_maintenance: bounded batches, several at once, and no account left out."""

import threading
from datetime import timedelta
from typing import Any

import psycopg

from tests.conftest import Database
from tests.ledger.direct import Ledger
from tests.ledger.test_hold import lot
from tests.ledger.test_spend import buyer

MINUTE = timedelta(minutes=1)


def run(ledger: Ledger, settle_after: timedelta = timedelta(0), batch: int = 200) -> dict[str, Any]:
    answer: dict[str, Any] = ledger.value("select credits.run_maintenance(%s, %s)", settle_after, batch)
    return answer


def unsettled(ledger: Ledger) -> int:
    count: int = ledger.value("select count(*) from public.credit_accounts where unsettled_since is not null")
    return count


def test_a_batch_is_bounded_and_says_whether_there_is_more(own_ledger: Ledger) -> None:
    for _ in range(5):
        buyer(own_ledger, 10)
    assert [run(own_ledger, batch=2) for _ in range(3)] == [
        {"settled": 2, "more": True}, {"settled": 2, "more": True}, {"settled": 1, "more": False},
    ]  # fmt: skip
    assert unsettled(own_ledger) == 0
    assert run(own_ledger) == {"settled": 0, "more": False}
    assert own_ledger.broken() == []


def test_it_waits_for_settle_after_but_not_with_what_expires(own_ledger: Ledger) -> None:
    ledger = own_ledger
    young, due = ledger.sign_up(), ledger.sign_up()
    ledger.as_service("grant_credits", user_id=young, amount=10, source="promo")
    lot(ledger, due, 10, 30 * timedelta(seconds=1))
    ledger.as_user(young, "hold_credits", operation="one", ttl=timedelta(seconds=30))
    ledger.pass_time(timedelta(seconds=29))
    assert run(ledger, MINUTE)["settled"] == 0
    ledger.pass_time(timedelta(seconds=1))
    assert run(ledger, MINUTE)["settled"] == 2
    assert ledger.account(due)["balance"] == 0
    assert ledger.account(young)["held"] == 0
    assert ledger.value("select status from public.credit_holds") == "expired"
    assert ledger.broken() == []


def test_a_locked_account_is_skipped_and_done_later(own_db: Database, own_ledger: Ledger) -> None:
    busy, idle = (buyer(own_ledger, 10) for _ in range(2))
    with psycopg.connect(own_db.url) as other:
        other.execute("select from public.credit_accounts where user_id = %s for update", (busy,))
        own_ledger.rows("set statement_timeout = '5s'")
        assert run(own_ledger)["settled"] == 1
        assert own_ledger.account(idle)["unsettled_since"] is None
    assert run(own_ledger)["settled"] == 1
    assert unsettled(own_ledger) == 0


def test_a_hot_account_is_waited_for_in_the_end(own_db: Database, own_ledger: Ledger) -> None:
    """An account that somebody always has locked is settled too: past a minute maintenance queues for it."""
    hot = buyer(own_ledger, 10)
    own_ledger.pass_time(2 * MINUTE)
    with psycopg.connect(own_db.url) as other, Ledger(psycopg.connect(own_db.url, autocommit=True)) as second:
        other.execute("select from public.credit_accounts where user_id = %s for update", (hot,))
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(run(second)))
        thread.start()
        waiting = (
            "select count(*) from pg_stat_activity "
            "where wait_event_type = 'Lock' and query like '%%run_maintenance%%'"
        )
        for _ in range(200):
            if own_ledger.value(waiting + " and pid <> pg_backend_pid() and true = %s", True):
                break
            thread.join(0.05)
        else:
            raise AssertionError("maintenance did not wait for the hot account")
        other.rollback()
        thread.join(10)
    assert answers == [{"settled": 1, "more": False}]
    assert own_ledger.account(hot)["unsettled_since"] is None


def test_several_at_once_settle_everything_once(own_db: Database, own_ledger: Ledger) -> None:
    users = [buyer(own_ledger, 10) for _ in range(24)]
    for user in users:
        own_ledger.as_user(user, "consume_credits", operation="one", quantity=3)
    errors: list[BaseException] = []

    def settle_all() -> None:
        try:
            with Ledger(psycopg.connect(own_db.url, autocommit=True)) as mine:
                while run(mine, batch=5)["more"]:
                    pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=settle_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    while run(own_ledger)["more"]:
        pass
    assert unsettled(own_ledger) == 0
    assert own_ledger.value("select count(*) from credits.credit_allocations") == len(users)
    assert own_ledger.broken() == []


def test_scheduling_says_what_is_missing(own_ledger: Ledger) -> None:
    if own_ledger.value("select count(*) from pg_available_extensions where name = 'pg_cron'"):
        return
    assert "pg_cron is not installed" in own_ledger.value("select credits.schedule_maintenance()")
