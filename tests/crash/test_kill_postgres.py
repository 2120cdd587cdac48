"""Postgres, backends and all, is killed with SIGKILL under load. What was acknowledged is there, once."""

import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from scripts.local.stack import Stack
from scripts.local.stack.processes import wait_gone, with_working_directory
from tests.support.clock import until
from tests.support.ledger import Ledger, Refused

WRITERS = 12
ROUNDS = 3
CREDITS = 1_000_000
PRICE = 3  # of stable_diffusion


@dataclass
class Writer:
    """One client: what it was told, and what it never heard of."""

    user: str
    number: int
    spent: dict[int, int] = field(default_factory=dict)  # id -> amount
    keys: dict[str, int] = field(default_factory=dict)  # key -> id
    holds: dict[str, str] = field(default_factory=dict)  # id -> status
    unheard_keys: list[str] = field(default_factory=list)
    unheard_spends: int = 0
    unheard_holds: int = 0
    calls: int = 0

    def run(self, url: str) -> None:
        """Call until the database dies."""
        with Ledger(psycopg.connect(url, autocommit=True)) as session:
            while True:
                self.calls += 1
                key = f"{self.number}-{self.calls}"
                what = {"operation": "stable_diffusion"}
                try:
                    match self.calls % 4:
                        case 0 | 1:
                            self.keys[key] = self.note(
                                session.as_user(self.user, "consume_credits", **what, idempotency_key=key)
                            )
                        case 2:
                            self.note(session.as_user(self.user, "consume_credits", **what))
                        case 3:
                            made = session.as_user(self.user, "hold_credits", **what)
                            hold = made["id"]
                            self.holds[hold] = "unsure"
                            self.note(
                                session.as_service(
                                    "capture_hold", account_id=made["account_id"], hold_id=hold
                                )
                            )
                            self.holds[hold] = "captured"
                except Refused as refused:
                    # 57P0x: the server goes down. Without a code: the connection broke.
                    assert refused.code in ("", "57P01", "57P02", "57P03"), refused
                    match self.calls % 4:
                        case 0 | 1:
                            self.unheard_keys.append(key)
                        case 2:
                            self.unheard_spends += 1
                        case 3 if "unsure" not in self.holds.values():
                            self.unheard_holds += 1
                    return

    def note(self, row: dict[str, Any]) -> int:
        """An acknowledged row."""
        self.spent[row["id"]] = row["amount"]
        made: int = row["id"]
        return made


def kill_postgres(stack: Stack) -> None:
    """SIGKILL for the postmaster first, so that it cannot shut anything down, then for all of its children.
    SIGKILL for the postmaster first, so that it cannot shut anything down, then for all of its children.
    """
    everything = with_working_directory(stack.paths.data)
    postmaster = int((stack.paths.data / "postmaster.pid").read_text().split()[0])
    assert postmaster in everything and len(everything) > WRITERS
    for pid in [postmaster, *everything]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert wait_gone(everything, 10) == []


@pytest.mark.slow
def test_acknowledged_spends_survive_and_nothing_happens_twice(doomed: Stack) -> None:
    owner_url, url = doomed.database_url("postgres"), doomed.database_url("postgres", "authenticator")
    # Two writers an account: their commits get into each other's way.
    with Ledger(psycopg.connect(owner_url, autocommit=True)) as owner:
        users = [owner.sign_up() for _ in range(WRITERS // 2)]
        for user in users:
            owner.as_service("grant_credits", user_id=user, amount=CREDITS, source="purchase")
        bonus = owner.value("select signup_bonus from credits.billing_settings")
    writers = [Writer(users[n % len(users)], n) for n in range(WRITERS)]

    for _ in range(ROUNDS):
        heard = sum(len(writer.spent) for writer in writers)
        with ThreadPoolExecutor(WRITERS) as threads:
            running = [threads.submit(writer.run, url) for writer in writers]
            killer = threading.Thread(target=_kill_after, args=(doomed, writers, heard + 150))
            killer.start()
            for future in running:
                future.result()
            killer.join()
        assert "postgres" in doomed.down()
        assert doomed.start()
        with Ledger(psycopg.connect(owner_url, autocommit=True)) as owner:
            for writer in writers:
                check(owner, writer)
            check_balances(owner, writers, bonus)

    with Ledger(psycopg.connect(owner_url, autocommit=True)) as owner:
        while owner.value("select credits.run_maintenance()")["more"]:
            pass
        assert owner.broken() == []


def _kill_after(stack: Stack, writers: list[Writer], spends: int) -> None:
    """Kill once so many spends were acknowledged: in the midst of it, however fast the machine is."""
    until(lambda: sum(len(writer.spent) for writer in writers) >= spends, 60, 0.002)
    kill_postgres(stack)


def check(owner: Ledger, writer: Writer) -> None:
    """What this writer was told is there; what it never heard of happened once or not at all, and can be
    asked for.
    """
    found = owner.rows(
        "select id, amount from public.credit_transactions where account_id = %s and id = any (%s)",
        owner.account(writer.user)["id"],
        list(writer.spent),
    )
    assert {row["id"]: row["amount"] for row in found} == writer.spent
    for key in writer.unheard_keys:
        # Asked again with the same key: the row that may be there already, or a new one.
        first = owner.as_user(
            writer.user, "consume_credits", operation="stable_diffusion", idempotency_key=key
        )
        again = owner.as_user(
            writer.user, "consume_credits", operation="stable_diffusion", idempotency_key=key
        )
        assert first == again
        writer.keys[key] = writer.note(first)
    writer.unheard_keys.clear()
    # A key that was acknowledged before the crash still gives its first answer.
    for key, made in list(writer.keys.items())[-5:]:
        again = owner.as_user(
            writer.user, "consume_credits", operation="stable_diffusion", idempotency_key=key
        )
        assert again["id"] == made
    for hold, status in writer.holds.items():
        if status == "unsure":
            # The capture may have happened unheard. Capturing is idempotent by hold.
            account = owner.account(writer.user)["id"]
            writer.note(owner.as_service("capture_hold", account_id=account, hold_id=hold))
            writer.holds[hold] = "captured"


def check_balances(owner: Ledger, writers: list[Writer], bonus: int) -> None:
    """Each account has lost what its writers were told of, and at most what they were in the midst of."""
    for user in {writer.user for writer in writers}:
        mine = [writer for writer in writers if writer.user == user]
        told = sum(len(writer.spent) for writer in mine)
        account = owner.account(user)
        rows = owner.value(
            "select count(*) from public.credit_transactions where account_id = %s and amount < 0",
            account["id"],
        )
        unheard = rows - told
        assert 0 <= unheard <= sum(writer.unheard_spends for writer in mine)
        assert account["balance"] == CREDITS + bonus - PRICE * rows
        keys = [key for writer in mine for key in writer.keys]
        kept = owner.value(
            "select count(*) from public.credit_transactions "
            "where account_id = %s and idempotency_key = any (%s)",
            account["id"],
            keys,
        )
        assert kept == len(keys)
        # Only holds whose making was never acknowledged may be open.
        assert account["held"] <= PRICE * sum(writer.unheard_holds for writer in mine)
        captured = [hold for writer in mine for hold in writer.holds]
        statuses = owner.rows(
            "select distinct status::text from public.credit_holds where id = any (%s::uuid[])", captured
        )
        assert statuses in ([], [{"status": "captured"}])
    assert owner.broken() == []
