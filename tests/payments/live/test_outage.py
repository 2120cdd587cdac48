"""The webhook function or the database is killed or away: Stripe delivers again, and all comes right."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scripts.local.stack import ports
from scripts.local.stack.processes import Daemon, wait_gone, with_working_directory
from tests.support.clock import until
from tests.support.served import Served, serving
from tests.support.shop import BONUS, Buyer, Shop

KILLS = 3
SALES = 9  # times two purchases
AWAY_SECONDS = float(os.environ.get("DATABASE_AWAY_SECONDS", "10"))

Sold = list[tuple[Buyer, list[str]]]


def daemon(shop: Shop, part: str) -> Daemon:
    """A part of the stack."""
    # SIGINT is Postgres's fast shutdown.
    return Daemon(
        part, shop.stack.paths.file(f"{part}.pid"), shop.stack.paths.file(f"{part}.log"), signal.SIGINT
    )


def kill_gateway(shop: Shop) -> None:
    """SIGKILL for the process that serves the functions."""
    pid = daemon(shop, "gateway").pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    port = urlsplit(shop.env.api_url).port or 0
    # Its threads outlive it by a moment, and its listening socket with them.
    until(lambda: "gateway" in shop.stack.down() and ports.is_free(port), every=0.01)


def kill_postgres(shop: Shop) -> None:
    """SIGKILL for the postmaster first, so that it cannot shut anything down, then for its children."""
    postmaster = daemon(shop, "postgres").pid()
    assert postmaster is not None
    everything = [postmaster, *with_working_directory(shop.stack.paths.data)]
    for pid in everything:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert wait_gone(everything, 10) == []


def open_sessions(shop: Shop, buyers: int) -> Sold:
    """Buyers with two open checkouts each."""
    return [
        (buyer, [buyer.checkout(package="starter") for _ in range(2)])
        for buyer in (shop.buyer() for _ in range(buyers))
    ]


def stored(shop: Shop) -> int:
    """How many events the database has."""
    return int(shop.sql("select count(*) from credits.stripe_events")[0][0])


def check(shop: Shop, sold: Sold) -> None:
    """Every purchase was granted exactly once, and the ledger is whole."""
    for buyer, paid in sold:
        assert buyer.entries() == [("grant", BONUS)] + [("grant", 50)] * len(paid)
        assert {row["checkout_session_id"] for row in buyer.rows("purchases")} == set(paid)
    assert shop.broken() == []


@pytest.mark.parametrize("kill", [kill_gateway, kill_postgres])
def test_killed_again_and_again_under_load(shop: Shop, kill: Callable[[Shop], None]) -> None:
    sold = open_sessions(shop, SALES)
    known = {item["id"] for item in shop.control.deliveries()}
    shop.control.first_retry(0.1)
    to_pay = [session for _, paid in sold for session in paid]
    turns = threading.Semaphore(0)
    dice = random.Random()  # noqa: S311 (at random moments, on purpose)

    def sell() -> None:
        """A burst of payments at each turn."""
        with shop.env.stripe_control() as control:
            for number, session in enumerate(to_pay):
                if number % (len(to_pay) // KILLS) == 0:
                    turns.acquire()
                control.complete(session)

    with ThreadPoolExecutor(1) as thread:
        selling = thread.submit(sell)
        for _ in range(KILLS):
            before = stored(shop)
            turns.release()
            until(lambda: stored(shop) != before, 30, 0.01)  # noqa: B023
            time.sleep(dice.random() * 0.1)
            kill(shop)
            assert shop.stack.start()
        selling.result()
    made = [item for item in shop.control.settled(60) if item["id"] not in known]
    assert all(item["state"] == "delivered" for item in made)
    repeated = [item for item in made if len(item["attempts"]) > 1]
    assert repeated, "nothing was cut off: no delivery had to be repeated"
    # No answer at all, or 503: never one that would end the retries.
    failures = [attempt for item in repeated for attempt in item["attempts"][:-1]]
    assert [attempt for attempt in failures if attempt["status"] not in (None, 503)] == []
    check(shop, sold)


def test_the_database_is_away(shop: Shop) -> None:
    sold = open_sessions(shop, 3)
    known = {item["id"] for item in shop.control.deliveries()}
    assert daemon(shop, "postgres").stop()
    began = time.monotonic()
    for _, paid in sold:
        for session in paid:
            shop.control.complete(session)
    time.sleep(max(0, AWAY_SECONDS - (time.monotonic() - began)))
    made = [item for item in shop.control.deliveries() if item["id"] not in known]
    meanwhile = [attempt["status"] for item in made for attempt in item["attempts"]]
    assert len(meanwhile) > len(made) >= 6
    assert set(meanwhile) == {503}
    assert shop.stack.start()
    shop.control.settled(60)
    check(shop, sold)


@pytest.fixture
def serve(shop: Shop, tmp_path: Path) -> Iterator[Callable[[str], Served]]:
    """A factory: fragile.py on a port that the local Stripe delivers to. `kill`: before, after or never."""
    port = ports.ephemeral()
    environment = {**shop.stack.gateway_settings().function_environment(), "PYTHONPATH": "functions"}
    command = ["uvicorn", "tests.payments.live.fragile:app"]
    with contextlib.ExitStack() as running:

        def start(kill: str) -> Served:
            log_file = tmp_path / f"{kill}.log"
            given = {**environment, "KILL": kill}
            return running.enter_context(serving(command, given, log_file, port=port, fork=True))

        shop.control.enabled_events(["checkout.session.completed"])
        shop.control.webhook_url(f"http://127.0.0.1:{port}")
        yield start


@pytest.mark.parametrize(("when", "kept"), [("before", 0), ("after", 1)])
def test_killed_between_signature_and_answer(
    shop: Shop, serve: Callable[[str], Served], when: str, kept: int
) -> None:
    buyer = shop.buyer()
    session = buyer.checkout(package="starter")
    doomed = serve(when)
    before = stored(shop)
    shop.control.complete(session)
    assert doomed.wait_dead() == -signal.SIGKILL
    # All of it is kept, or nothing.
    assert (stored(shop), buyer.balance()) == (before + kept, BONUS + 50 * kept)
    serve("never")
    (*_, delivery) = shop.control.settled()
    assert delivery["attempts"][0]["status"] is None
    assert (delivery["state"], delivery["attempts"][-1]["status"]) == ("delivered", 200)
    assert (stored(shop), buyer.balance()) == (before + 1, BONUS + 50)
