"""PostgREST or the gateway is killed with SIGKILL under load. A client that asks again with the same key
pays once.
"""

import os
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from scripts.local.stack import Stack, ports
from scripts.local.stack.processes import Daemon
from tests.support.clock import until
from tests.support.ledger import Ledger

CLIENTS = 8
SPENDS = 25
KILLS = 3


def sign_up(stack: Stack) -> tuple[str, dict[str, str]]:
    """A new user with credits: the id, and headers for requests."""
    status = stack.status()
    headers = {"apikey": status.publishable_key}
    body = {"email": f"{uuid.uuid4().hex}@example.com", "password": "correct horse"}
    answer = (
        httpx.post(f"{status.api_url}/auth/v1/signup", json=body, headers=headers).raise_for_status().json()
    )
    grant = {"user_id": answer["user"]["id"], "amount": 10_000, "source": "purchase"}
    secret = {"apikey": status.secret_key}
    httpx.post(f"{status.api_url}/rest/v1/rpc/grant_credits", json=grant, headers=secret).raise_for_status()
    return answer["user"]["id"], {**headers, "Authorization": f"Bearer {answer['access_token']}"}


def spend_all(url: str, headers: dict[str, str], keys: list[str]) -> tuple[list[int], int]:
    """Spend once with each key, asking again until there is an answer. Returns the rows' ids, and how many
    asked again.
    """
    made, repeats = [], 0
    client = httpx.Client(headers=headers, timeout=30)
    for key in keys:
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = client.post(url, json={"operation": "stable_diffusion", "idempotency_key": key})
            except httpx.TransportError:
                client.close()
                client = httpx.Client(headers=headers, timeout=30)
            else:
                # 503: the gateway has no PostgREST, or PostgREST no database. Nothing else may come.
                assert answer.status_code in (200, 503), answer.text
                if answer.status_code == 200:
                    made.append(answer.json()["id"])
                    break
            assert time.monotonic() < deadline, f"no answer for {key}"
            repeats += 1
            time.sleep(0.02)
    client.close()
    return made, repeats


@pytest.mark.slow
@pytest.mark.parametrize("part", ["postgrest", "gateway"])
def test_the_same_key_again_after_a_kill_gives_one_charge(doomed: Stack, part: str) -> None:
    user, headers = sign_up(doomed)
    url = f"{doomed.status().api_url}/rest/v1/rpc/consume_credits"
    keys = [[f"{part}-{client}-{n}" for n in range(SPENDS)] for client in range(CLIENTS)]
    port = urlsplit(url).port or 0
    daemon = Daemon(part, doomed.paths.file(f"{part}.pid"), doomed.paths.file(f"{part}.log"))

    with (
        Ledger(psycopg.connect(doomed.database_url("postgres"), autocommit=True)) as owner,
        ThreadPoolExecutor(CLIENTS) as threads,
    ):
        account = owner.account(user)["id"]
        clients = [threads.submit(spend_all, url, headers, mine) for mine in keys]
        for kill in range(1, KILLS + 1):
            # In the midst of it, however fast the machine is.
            enough = kill * CLIENTS * SPENDS // (KILLS + 1)
            until(lambda: count(owner, account) >= enough, 60, 0.01)  # noqa: B023
            pid = daemon.pid()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            # Its threads outlive it by a moment, and its listening socket with them.
            until(lambda: part in doomed.down() and (part == "postgrest" or ports.is_free(port)), every=0.01)
            assert doomed.start()
        answers = [client.result() for client in clients]

        made = [row for rows, _ in answers for row in rows]
        assert len(set(made)) == len(made) == CLIENTS * SPENDS
        assert sum(repeats for _, repeats in answers) > 0
        assert count(owner, account) == CLIENTS * SPENDS
        found = owner.rows(
            "select id from public.credit_transactions where account_id = %s and kind = 'spend'", account
        )
        assert {row["id"] for row in found} == set(made)
        assert owner.account(user)["balance"] == 10_000 + 10 - 3 * CLIENTS * SPENDS
        assert owner.broken(user) == []


def count(owner: Ledger, account: str) -> int:
    """How many spends the account has."""
    found: int = owner.value(
        "select count(*) from public.credit_transactions where account_id = %s and kind = 'spend'", account
    )
    return found
