"""credits.maintain and credits.run_maintenance: bounded batches, several at once, and no account left out."""

import json
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.support.clock import MINUTE, SECOND, until
from tests.support.ledger import Ledger, Refused, buyer, lot, small_batches
from tests.support.stack import Database
from tests.support.studio import Studio


def run(ledger: Ledger, settle_after: timedelta = timedelta(0), batch: int = 200) -> dict[str, Any]:
    answer: dict[str, Any] = ledger.value("select credits.run_maintenance(%s, %s)", settle_after, batch)
    return answer


def maintain(
    ledger: Ledger,
    settle_after: timedelta | None = timedelta(0),
    batch: int = 200,
    at_most: timedelta = MINUTE,
) -> bool:
    """The procedure that pg_cron calls; whether there is more to do."""
    more: bool = ledger.value("call credits.maintain(%s, %s, %s)", settle_after, batch, at_most)
    return more


def replace_sweep(ledger: Ledger, task: str, body: str) -> str:
    """Have the sweep of a task do something else; returns what it was."""
    whole: str = ledger.value(
        "select pg_get_functiondef(oid) from pg_proc where proname = %s", f"sweep_{task}"
    )
    ledger.rows(whole.partition("AS $function$")[0] + f"as $body$begin {body} end$body$")
    return whole


def waiting(ledger: Ledger, user: str) -> int:
    """Ledger rows of the user that are not settled."""
    account = ledger.account(user)
    return int(account["last_entry"] - account["settled_through"])


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


@pytest.mark.parametrize("what", ["lot", "hold"])
def test_an_account_with_nothing_but_something_due_is_settled(own_ledger: Ledger, what: str) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 10)
    if what == "lot":
        lot(ledger, user, 5, MINUTE)
    else:
        ledger.as_user(user, "hold_credits", operation="one", ttl=MINUTE)
    ledger.settle(user)
    ledger.pass_time(MINUTE - SECOND)
    assert run(ledger)["settled"] == 0
    assert ledger.account(user)["unsettled_since"] is None
    ledger.pass_time(SECOND)
    assert run(ledger, timedelta(days=1)) == {"settled": 1, "more": False}
    account = ledger.account(user)
    assert (account["next_expiry"], account["balance"], account["available"]) == (None, 10, 10)
    assert ledger.broken() == []


def test_a_day_that_is_over_does_not_wait_for_settle_after(own_ledger: Ledger) -> None:
    """What was spent on a day is all in its daily usage once maintenance has run on the next."""
    ledger, user, other = own_ledger, buyer(own_ledger, 100), buyer(own_ledger, 100)
    day, hour = timedelta(days=1), timedelta(hours=1)
    for account in (user, other):
        ledger.settle(account)
    ledger.pass_time(day - SECOND)
    ledger.as_user(user, "consume_credits", operation="one", quantity=7)
    assert run(ledger, hour)["settled"] == 0
    # Midnight, to the microsecond: what is written now is the new day's.
    ledger.pass_time(SECOND)
    ledger.as_user(other, "consume_credits", operation="one", quantity=5)
    incomplete = ledger.rows(
        "select user_id::text from public.credit_accounts where unsettled_since < '2100-01-02T00:00Z'"
    )
    assert [row["user_id"] for row in incomplete] == [user]
    assert run(ledger, hour)["settled"] == 1
    usage = ledger.rows("select day::text, spent from credits.usage_days order by day")
    assert [list(row.values()) for row in usage] == [["2100-01-01", 7]]
    assert waiting(ledger, other) == 1
    # In the middle of a day it waits.
    ledger.pass_time(hour - SECOND)
    assert run(ledger, hour)["settled"] == 0
    ledger.pass_time(SECOND)
    assert run(ledger, hour)["settled"] == 1
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


def test_one_call_works_off_what_has_piled_up(own_ledger: Ledger) -> None:
    """More than a batch, and more than the accounts that it looks for at a time (ten batches)."""
    users = [buyer(own_ledger, 10) for _ in range(23)]
    assert maintain(own_ledger, batch=2, at_most=timedelta(0)) is True
    assert unsettled(own_ledger) == 21
    assert maintain(own_ledger, batch=2) is False
    assert unsettled(own_ledger) == 0
    # So do the other tasks.
    for user in users:
        hold = own_ledger.as_user(user, "hold_credits", operation="one")
        own_ledger.as_service("release_hold", account_id=hold["account_id"], hold_id=hold["id"])
    own_ledger.pass_time(timedelta(days=40))
    assert maintain(own_ledger, batch=5) is False
    assert own_ledger.value("select count(*) from public.credit_holds") == 0
    assert own_ledger.broken() == []


def test_what_pg_cron_calls_waits_for_settle_after(own_ledger: Ledger) -> None:
    whole: str = own_ledger.value("select pg_get_functiondef('credits.schedule_maintenance'::regproc)")
    (command,) = re.findall(r"cron\.schedule\('credits-maintenance', '10 seconds', '(.*)'\)", whole)
    user = buyer(own_ledger, 10)
    own_ledger.pass_time(timedelta(minutes=59))
    own_ledger.rows(command)
    assert waiting(own_ledger, user) == 1
    own_ledger.pass_time(MINUTE)
    own_ledger.rows(command)
    assert waiting(own_ledger, user) == 0


def test_no_lock_outlives_its_batch(own_db: Database, own_ledger: Ledger) -> None:
    """While a call goes on, what it has settled is committed, and its account free."""
    user = buyer(own_ledger, 10)
    own_ledger.rows("create table clock.gate (is_open boolean)")
    replace_sweep(
        own_ledger, "stripe_payloads",
        "while not exists (select from clock.gate) loop perform pg_sleep(0.01); end loop; return 0;",
    )  # fmt: skip
    with Ledger(psycopg.connect(own_db.url, autocommit=True)) as second:
        thread = threading.Thread(target=lambda: maintain(second))
        thread.start()
        until(lambda: unsettled(own_ledger) == 0)
        own_ledger.rows("set lock_timeout = '1s'")
        own_ledger.as_user(user, "consume_credits", operation="one")
        assert thread.is_alive()
        own_ledger.rows("insert into clock.gate values (true)")
        thread.join(10)
    assert not thread.is_alive()
    assert own_ledger.broken() == []


def test_scheduling_says_what_is_missing(own_ledger: Ledger) -> None:
    if own_ledger.value("select count(*) from pg_available_extensions where name = 'pg_cron'"):
        return
    assert "pg_cron is not installed" in own_ledger.value("select credits.schedule_maintenance()")


# -- what fails --------------------------------------------------------------------------------------


def broken_seals(ledger: Ledger, *accounts: str) -> None:
    """From now on a settlement of these accounts fails, as one of an account with a damaged row would."""
    ledger.rows(
        "create or replace function clock.fail() returns trigger language plpgsql "
        "as 'begin raise program_limit_exceeded using message = ''array size exceeds''; end'"
    )
    ledger.rows("drop trigger if exists fail on credits.ledger_seals")
    if accounts:
        named = ", ".join(f"'{account}'" for account in accounts)
        ledger.rows(
            f"create trigger fail before insert on credits.ledger_seals for each row "
            f"when (new.account_id in ({named})) execute function clock.fail()"
        )


def report(ledger: Ledger) -> list[dict[str, Any]]:
    """What operators read."""
    query = "select to_jsonb(r) as failure from public.maintenance_report() as r"
    return [row["failure"] for row in ledger.rows(query)]


def test_an_account_that_fails_is_noted_and_the_others_are_settled(own_ledger: Ledger) -> None:
    ledger, users = own_ledger, [buyer(own_ledger, 10) for _ in range(4)]
    bad = ledger.account(users[0])["id"]
    hold = ledger.as_user(users[1], "hold_credits", operation="one", ttl=MINUTE)
    broken_seals(ledger, str(bad))
    ledger.pass_time(MINUTE)
    assert run(ledger) == {"settled": 3, "more": False}
    assert unsettled(ledger) == 1
    assert ledger.value("select status from public.credit_holds where id = %s", hold["id"]) == "expired"
    (failure,) = report(ledger)
    assert (failure["task"], failure["account_id"], failure["user_id"]) == ("settlement", str(bad), users[0])
    assert (failure["sqlstate"], failure["message"]) == ("54000", "array size exceeds")
    assert (failure["failures"], failure["first_at"]) == (1, failure["last_at"])
    # Nothing of it was half done.
    assert ledger.broken() == []
    broken_seals(ledger)
    ledger.pass_time(11 * timedelta(seconds=1))
    assert run(ledger)["settled"] == 1
    assert report(ledger) == []


def test_each_that_fails_is_noted_where_many_are_settled_together(own_ledger: Ledger) -> None:
    ledger, users = own_ledger, [buyer(own_ledger, 10) for _ in range(17)]
    bad = [str(ledger.account(users[n])["id"]) for n in (0, 7, 8, 16)]
    broken_seals(ledger, *bad)
    assert run(ledger) == {"settled": 13, "more": False}
    assert sorted(row["account_id"] for row in report(ledger)) == sorted(bad)
    assert [row["failures"] for row in report(ledger)] == [1] * 4
    assert ledger.broken() == []


def test_a_whole_batch_does_not_wait(own_ledger: Ledger) -> None:
    ledger = own_ledger
    small_batches(ledger, 3)
    busy, quiet = buyer(ledger, 10), buyer(ledger, 10)
    ledger.as_user(busy, "consume_credits", operation="one")
    assert run(ledger, timedelta(hours=1))["settled"] == 0
    ledger.as_user(busy, "consume_credits", operation="one")
    assert run(ledger, timedelta(hours=1)) == {"settled": 1, "more": False}
    assert (waiting(ledger, busy), waiting(ledger, quiet)) == (0, 1)


def test_a_failing_account_is_tried_less_and_less_often(own_ledger: Ledger) -> None:
    """And takes no place of the batch meanwhile."""
    ledger = own_ledger
    bad = [buyer(ledger, 10) for _ in range(3)]
    broken_seals(ledger, *(str(ledger.account(user)["id"]) for user in bad))
    ledger.pass_time(MINUTE)
    good = buyer(ledger, 10)
    assert run(ledger, batch=2)["settled"] == 0
    assert run(ledger, batch=2)["settled"] == 1
    assert ledger.account(good)["unsettled_since"] is None
    tried, every = [], 5 * timedelta(seconds=1)
    for second in range(0, 200, 5):
        ledger.pass_time(every)
        run(ledger)
        if report(ledger)[0]["last_at"] == ledger.now().isoformat():
            tried.append(second + 5)
    assert tried == [10, 30, 70, 150]
    for _ in range(12):
        ledger.pass_time(timedelta(hours=1))
        run(ledger)
    gone = [row["failures"] for row in ledger.rows("select failures from credits.maintenance_failures")]
    assert min(gone) >= 15
    # Settled by whatever else, it is forgotten.
    broken_seals(ledger)
    ledger.pass_time(every)
    for user in bad:
        ledger.as_service("grant_credits", user_id=user, amount=1, source="promo")
    run(ledger)
    assert report(ledger) == []
    assert ledger.broken() == []


def test_a_message_that_may_quote_a_user_is_not_kept(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 10)
    broken_seals(ledger, str(ledger.account(user)["id"]))
    ledger.rows(
        "create or replace function clock.fail() returns trigger language plpgsql "
        "as 'declare a integer; begin a := ''ann@example.com''; return new; end'"
    )
    run(ledger)
    (failure,) = report(ledger)
    assert (failure["sqlstate"], failure["message"]) == ("22P02", None)


def test_each_job_and_each_sweep_fails_by_itself(own_ledger: Ledger) -> None:
    studio, ledger = Studio(own_ledger), own_ledger
    users, operation = [studio.buyer() for _ in range(2)], studio.operation()
    jobs = [studio.begin(user, operation)["id"] for user in users]
    ledger.rows(
        "create function clock.fail() returns trigger language plpgsql "
        "as 'begin raise program_limit_exceeded using message = ''too much''; end'"
    )
    ledger.rows(
        f"create trigger fail before update on public.generation_jobs for each row "
        f"when (new.id = '{jobs[0]}') execute function clock.fail()"
    )
    ledger.pass_time(2 * MINUTE)
    run(ledger)
    rows = ledger.rows("select id::text, status from public.generation_jobs")
    statuses = {row["id"]: row["status"] for row in rows}
    assert statuses == {jobs[0]: "held", jobs[1]: "failed"}
    (failure,) = report(ledger)
    assert (failure["task"], failure["job_id"], failure["user_id"]) == ("generations", jobs[0], users[0])
    ledger.rows("drop trigger fail on public.generation_jobs")
    ledger.pass_time(MINUTE)
    run(ledger)
    assert report(ledger) == []

    # A whole sweep: what hangs on a hold in the app's own table keeps it from being pruned.
    ledger.rows(
        "create table clock.own (account_id uuid, hold_id uuid, "
        "foreign key (account_id, hold_id) references public.credit_holds)"
    )
    released = ledger.as_user(users[0], "hold_credits", operation="one")
    ledger.as_service("release_hold", account_id=released["account_id"], hold_id=released["id"])
    ledger.rows("insert into clock.own values (%s, %s)", released["account_id"], released["id"])
    ledger.pass_time(timedelta(days=40))
    ledger.as_user(users[1], "consume_credits", operation="one")
    run(ledger)
    assert waiting(ledger, users[1]) == 0
    (failure,) = report(ledger)
    assert (failure["task"], failure["account_id"], failure["sqlstate"]) == ("holds", None, "23503")
    ledger.rows("drop table clock.own")
    run(ledger)
    assert len(report(ledger)) == 1
    ledger.pass_time(10 * SECOND)
    run(ledger)
    assert report(ledger) == []


def test_each_task_fails_by_itself_and_the_others_are_done(own_ledger: Ledger) -> None:
    ledger = own_ledger
    tasks = ledger.value("select enum_range(null::credits.maintenance_task)::text[]")
    assert tasks[0] == "settlement"
    for task in tasks:
        user = buyer(ledger, 10)
        whole = replace_sweep(ledger, task, "raise 'away';")
        answer = run(ledger)
        assert (answer["settled"], waiting(ledger, user)) == ((0, 1) if task == "settlement" else (1, 0)), (
            task
        )
        (failure,) = report(ledger)
        assert (failure["task"], failure["account_id"], failure["job_id"]) == (task, None, None)
        # It is not tried again at once, and less and less often.
        run(ledger)
        assert [row["failures"] for row in report(ledger)] == [1]
        ledger.pass_time(10 * SECOND)
        run(ledger)
        assert [row["failures"] for row in report(ledger)] == [2]
        ledger.rows(whole)
        ledger.pass_time(20 * SECOND)
        run(ledger)
        assert report(ledger) == []
        assert waiting(ledger, user) == 0


def test_an_account_that_a_session_left_locked_does_not_stop_the_others(
    own_db: Database, own_ledger: Ledger
) -> None:
    stuck = buyer(own_ledger, 10)
    own_ledger.pass_time(MINUTE)
    other = buyer(own_ledger, 10)
    own_ledger.pass_time(2 * MINUTE)
    own_ledger.rows("set lock_timeout = '1min'")
    with psycopg.connect(own_db.url) as session:
        session.execute("select from public.credit_accounts where user_id = %s for update", (stuck,))
        assert run(own_ledger)["settled"] == 1
        assert own_ledger.account(other)["unsettled_since"] is None
        (failure,) = report(own_ledger)
        assert (failure["user_id"], failure["sqlstate"]) == (stuck, "55P03")
    assert own_ledger.value("show lock_timeout") == "1min"
    own_ledger.pass_time(MINUTE)
    assert run(own_ledger)["settled"] == 1
    assert report(own_ledger) == []


@pytest.mark.parametrize("whole", [run, maintain])
def test_a_sweep_that_is_too_slow_stops_no_other(own_ledger: Ledger, whole: Callable[[Ledger], Any]) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 10)
    tasks = ledger.value("select enum_range(null::credits.maintenance_task)::text[]")
    ledger.rows("create table clock.swept (task text)")
    for task in tasks[1:]:
        replace_sweep(ledger, task, f"insert into clock.swept values ('{task}'); return 0;")
    slow = "insert into clock.swept values ('slow'); perform pg_sleep(30); return 0;"
    replace_sweep(ledger, "generations", slow)
    ledger.rows("set statement_timeout = '1s'")
    whole(ledger)
    assert waiting(ledger, user) == 0
    swept = [row["task"] for row in ledger.rows("select task from clock.swept order by task")]
    assert swept == sorted({*tasks} - {"settlement", "generations"})
    (failure,) = report(ledger)
    assert (failure["task"], failure["account_id"], failure["sqlstate"]) == ("generations", None, "57014")
    assert "statement timeout" in failure["message"]
    # It does not take its time from the others again at once.
    whole(ledger)
    assert [row["failures"] for row in report(ledger)] == [1]


def test_an_account_that_is_too_slow_stops_no_other(own_ledger: Ledger) -> None:
    ledger, users = own_ledger, [buyer(own_ledger, 10) for _ in range(3)]
    bad = str(ledger.account(users[0])["id"])
    broken_seals(ledger, bad)
    ledger.rows(
        "create or replace function clock.fail() returns trigger language plpgsql "
        "as 'begin perform pg_sleep(1); raise query_canceled; end'"
    )
    assert run(ledger)["settled"] == 2
    (failure,) = report(ledger)
    assert (failure["account_id"], failure["sqlstate"]) == (bad, "57014")


def test_who_reads_the_failures_with_a_lock_stops_nothing(own_db: Database, own_ledger: Ledger) -> None:
    """An operator's open transaction: on the rows of a sweep that goes well again and one that does not."""
    ledger, users = own_ledger, [buyer(own_ledger, 10) for _ in range(3)]
    bad = str(ledger.account(users[0])["id"])
    broken_seals(ledger, bad)
    ledger.rows("create table clock.swept (task text)")
    replace_sweep(ledger, "holds", "raise 'away';")
    assert run(ledger)["settled"] == 2
    assert [row["task"] for row in report(ledger)] == ["settlement", "holds"]
    replace_sweep(ledger, "holds", "insert into clock.swept values ('holds'); return 0;")
    for user in users[1:]:
        ledger.as_user(user, "consume_credits", operation="one")
    ledger.pass_time(10 * SECOND)
    with psycopg.connect(own_db.url) as operator:
        operator.execute("select * from credits.maintenance_failures for update")
        assert run(ledger)["settled"] == 2
        assert [waiting(ledger, user) for user in users] == [1, 0, 0]
        assert ledger.value("select count(*) from clock.swept") == 1
        assert [row["failures"] for row in report(ledger)] == [1, 1]
    run(ledger)
    assert [(row["task"], row["failures"]) for row in report(ledger)] == [("settlement", 2)]
    assert ledger.broken() == []


def test_a_user_who_is_being_deleted_holds_nobody_up(own_db: Database, own_ledger: Ledger) -> None:
    """To expire a lot asks for the user's row, with the locks of all accounts of the batch held."""
    asked = "select credits.attempt('holds', 'select to_jsonb(current_setting(''lock_timeout''))')"
    assert own_ledger.value(asked) == "200ms"
    ledger, users = own_ledger, [buyer(own_ledger, 10) for _ in range(2)]
    lot(ledger, users[0], 5, MINUTE)
    ledger.pass_time(MINUTE)
    with psycopg.connect(own_db.url) as other:
        other.execute("select from auth.users where id = %s for update", (users[0],))
        assert run(ledger)["settled"] == 1
        (failure,) = report(ledger)
        assert (failure["user_id"], failure["sqlstate"]) == (users[0], "55P03")
    ledger.pass_time(10 * SECOND)
    assert run(ledger)["settled"] == 1
    assert report(ledger) == []


def test_a_run_ends_where_all_that_waits_is_locked(own_db: Database, own_ledger: Ledger) -> None:
    """As many as a batch, left locked by a session: looking for them again and again helps nobody."""
    users = [buyer(own_ledger, 10) for _ in range(2)]
    with psycopg.connect(own_db.url) as session:
        session.execute(
            "select from public.credit_accounts where user_id = any(%s::uuid[]) for update", (users,)
        )
        assert maintain(own_ledger, batch=2, at_most=3 * SECOND) is False
    assert maintain(own_ledger, batch=2) is False
    assert [waiting(own_ledger, user) for user in users] == [0, 0]
    assert report(own_ledger) == []


def test_users_who_are_being_deleted_do_not_have_the_others_wait(
    own_db: Database, own_ledger: Ledger
) -> None:
    """A session that deletes many users: waiting for each of them may not add up, with all locks held."""
    ledger, users = own_ledger, [buyer(own_ledger, 10) for _ in range(12)]
    for user in users:
        lot(ledger, user, 5, MINUTE)
    ledger.pass_time(MINUTE)
    with psycopg.connect(own_db.url) as other:
        other.execute("select from auth.users where id = any(%s::uuid[]) for update", (users[:11],))
        assert run(ledger)["more"] is False
        failed = len(report(ledger))
        assert 1 <= failed < 11
        maintain(ledger)
        assert waiting(ledger, users[11]) == 0
        assert len(report(ledger)) == 11
    ledger.pass_time(MINUTE)
    maintain(ledger)
    assert report(ledger) == []
    assert ledger.broken() == []


def test_users_do_not_read_the_report(own_ledger: Ledger) -> None:
    with pytest.raises(Refused, match="42501"):
        own_ledger.as_user(own_ledger.sign_up(), "maintenance_report")


# -- what is too much for one run --------------------------------------------------------------------


def test_an_account_with_very_many_rows_is_settled_bit_by_bit(own_ledger: Ledger) -> None:
    ledger = own_ledger
    small_batches(ledger, 2)
    large = buyer(ledger, 100)
    for _ in range(50):
        ledger.as_user(large, "consume_credits", operation="one")
    ledger.pass_time(SECOND)
    small = buyer(ledger, 10)
    ledger.as_user(small, "consume_credits", operation="one")
    # 10 batches an account and transaction, and then no other.
    seen = []
    while run(ledger)["more"]:
        seen.append((waiting(ledger, large), waiting(ledger, small)))
        assert ledger.account(large)["unsettled_since"] is not None
        assert ledger.broken() == []
    assert seen == [(31, 2), (11, 2)]
    assert (waiting(ledger, large), waiting(ledger, small)) == (0, 0)
    assert ledger.broken() == []


def test_large_accounts_do_not_take_the_run_from_small_ones(own_ledger: Ledger) -> None:
    ledger = own_ledger
    small_batches(ledger, 1)
    large = [buyer(ledger, 100) for _ in range(3)]
    for user in large:
        for _ in range(40):
            ledger.as_user(user, "consume_credits", operation="one")
    ledger.pass_time(SECOND)
    small = buyer(ledger, 10)
    seen: list[list[int]] = []
    # 10 batches each, in turn: the small one's comes before anybody's second.
    pending: list[str] = []
    while True:
        answer = ledger.value(
            "select credits.sweep_settlement(200, '0', "
            "array(select jsonb_array_elements_text(%s::jsonb))::uuid[])",
            json.dumps(pending),
        )
        pending = answer["waiting"]
        seen.append([waiting(ledger, user) for user in (*large, small)])
        assert ledger.broken() == []
        if not pending:
            break
    assert seen[:4] == [[31, 41, 41, 1], [31, 31, 41, 1], [31, 31, 31, 1], [21, 31, 31, 0]]
    assert unsettled(ledger) == 0


def test_a_spend_that_finds_many_unsettled_rows_settles_some(own_ledger: Ledger) -> None:
    ledger = own_ledger
    small_batches(ledger, batch=2, most=5)
    user = buyer(ledger, 100)
    seen = []
    for _ in range(12):
        ledger.as_user(user, "consume_credits", operation="one")
        seen.append(waiting(ledger, user))
    assert seen == [2, 3, 4, 5, 4, 5, 4, 5, 4, 5, 4, 5]
    holds = [ledger.as_user(user, "hold_credits", operation="one") for _ in range(3)]
    for hold in holds:
        ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"])
        assert waiting(ledger, user) <= 5
    assert ledger.broken() == []
    # Who is refused has nothing settled for it.
    ledger.as_user(user, "consume_credits", operation="one", quantity=80)
    before = ledger.account(user)
    with pytest.raises(Refused, match="PT402"):
        ledger.as_user(user, "consume_credits", operation="one", quantity=80)
    assert ledger.account(user) == before


def test_a_changed_count_does_not_keep_spends_settling_for_ever(own_ledger: Ledger) -> None:
    user = buyer(own_ledger, 100)
    own_ledger.settle(user)
    own_ledger.rows("update public.credit_accounts set last_entry = 70000")
    own_ledger.rows("set statement_timeout = '10s'")
    for number in (70001, 70002):
        assert own_ledger.as_user(user, "consume_credits", operation="one")["id"] == number
    # A batch at a time, as they would settle rows.
    assert waiting(own_ledger, user) < 50_000
    while run(own_ledger)["more"]:
        pass
    assert waiting(own_ledger, user) == 0
    assert own_ledger.broken() == ["ledger rows are numbered without a gap"]


def test_rows_that_are_gone_do_not_keep_spends_settling_for_ever(own_ledger: Ledger) -> None:
    small_batches(own_ledger, batch=2, most=5)
    user = buyer(own_ledger, 100)
    own_ledger.settle(user)
    for _ in range(5):
        own_ledger.as_user(user, "consume_credits", operation="one")
    own_ledger.rows("alter table public.credit_transactions disable trigger append_only")
    own_ledger.rows("delete from public.credit_transactions where id between 2 and 4")
    own_ledger.rows("set statement_timeout = '10s'")
    own_ledger.as_user(user, "consume_credits", operation="one")
    own_ledger.settle(user)
    assert waiting(own_ledger, user) == 0
    assert "ledger rows are numbered without a gap" in own_ledger.broken()
