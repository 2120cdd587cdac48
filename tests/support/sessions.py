"""Many sessions on one database, each as PostgREST has it: logged in as authenticator, a role and claims a
call.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import psycopg

from tests.support.clock import until
from tests.support.ledger import Ledger, Refused

Call = Callable[[], Any]


class Bank:
    """A database with the ledger, and any number of sessions on it. Users start with nothing but what
    user() grants.
    """

    def __init__(self, owner_url: str, authenticator_url: str) -> None:
        self._urls = {"postgres": owner_url, "authenticator": authenticator_url}
        self._used: list[tuple[str, Ledger]] = []
        self._free: list[tuple[str, Ledger]] = []
        self.owner = Ledger(psycopg.connect(owner_url, autocommit=True))

    def _session(self, role: str) -> Ledger:
        found = next((item for item in self._free if item[0] == role), None)
        if found:
            self._free.remove(found)
        else:
            found = (role, Ledger(psycopg.connect(self._urls[role], autocommit=True)))
        self._used.append(found)
        return found[1]

    def owner_session(self) -> Ledger:
        """One more session of `postgres`, who runs maintenance and clawbacks."""
        return self._session("postgres")

    def sessions(self, count: int) -> list[Ledger]:
        """So many sessions, connected."""
        return [self._session("authenticator") for _ in range(count)]

    def give_back(self) -> None:
        """Let the next test have the sessions of this one, with no bonus and the usual limits."""
        self._free += self._used
        self._used = []
        self.owner.rows(
            "update credits.billing_settings "
            "set signup_bonus = 0, max_holds_per_minute = default, max_open_holds = default"
        )

    def close(self) -> None:
        """End every session."""
        for _, session in self._used + self._free:
            session.connection.close()
        self.owner.connection.close()

    def user(self, balance: int = 0) -> str:
        """A new user with so many credits."""
        user = self.owner.sign_up()
        if balance:
            self.owner.as_service("grant_credits", user_id=user, amount=balance, source="purchase")
        return user

    def ledger(self, user: str) -> list[dict[str, Any]]:
        """The user's ledger rows, oldest first."""
        return self.owner.rows(
            "select t.* from public.credit_transactions t "
            "join public.credit_accounts a on a.id = t.account_id "
            "where a.user_id = %s order by t.id",
            user,
        )

    def holds(self, user: str) -> list[dict[str, Any]]:
        """The user's holds."""
        return self.owner.rows(
            "select h.* from public.credit_holds h join public.credit_accounts a on a.id = h.account_id "
            "where a.user_id = %s order by h.created_at",
            user,
        )

    @contextlib.contextmanager
    def locked(self, user: str, waiting: int) -> Iterator[None]:
        """Keep the account's row locked until `waiting` sessions wait for a lock, then let them all go.

        Enter it in a thread of its own beside the calls: it ends by itself.
        """
        holder = self.owner_session().connection
        with holder.transaction():
            holder.execute("select from public.credit_accounts where user_id = %s for no key update", (user,))
            yield
            self.until_waiting(waiting)

    def until_waiting(self, count: int) -> None:
        """Return once so many sessions of this database wait for a lock."""
        query = (
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and wait_event_type = 'Lock'"
        )
        until(lambda: self.owner.value(query) >= count, 30, 0.01)

    def all_at_once(self, calls: Sequence[Call], queued_behind: str | None = None) -> list[Any]:
        """Make all calls at the same moment, each in a thread; returns an answer or a Refused for each.

        With `queued_behind`, a user, that account's row is locked until all the calls wait.
        """
        barrier = Barrier(len(calls))

        def run(call: Call) -> Any:
            barrier.wait()
            try:
                return call()
            except Refused as refused:
                return refused

        with ThreadPoolExecutor(len(calls)) as threads:
            lock = self.locked(queued_behind, len(calls)) if queued_behind else contextlib.nullcontext()
            with lock:
                futures = [threads.submit(run, call) for call in calls]
            return [future.result() for future in futures]

    def check(self) -> None:
        """Nothing is broken, before a settlement of everything and after."""
        assert self.owner.rows("select * from public.verify_ledger()") == []
        self.settle()
        assert self.owner.rows("select * from public.verify_ledger()") == []

    def settle(self) -> None:
        """Run maintenance until nothing is left to do."""
        while self.owner.value("select credits.run_maintenance()")["more"]:
            pass


def codes(answers: Sequence[Any]) -> list[str]:
    """The SQLSTATEs of the refused calls, sorted."""
    return sorted(answer.code for answer in answers if isinstance(answer, Refused))


def successes(answers: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows that the other calls returned."""
    return [answer for answer in answers if not isinstance(answer, Refused)]
