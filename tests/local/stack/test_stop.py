"""`scripts/stack stop` in the middle of a generation: what was begun is finished, and charged once."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from scripts.local.providers.control import Control
from scripts.local.stack import Stack, ports
from tests.support import prepared
from tests.support.clock import until
from tests.support.stack import ROOT, Env, User

BODY = {"operation": "dalle3_image", "prompt": "a cat in a tin can"}


@pytest.fixture
def busy() -> Iterator[Stack]:
    """A stack of its own with providers that take their time."""
    stack = Stack(ROOT, f"test-{os.getpid()}-stop", ports.free_pair())
    try:
        prepared.start(stack, providers=True)
        with Control(stack.status().providers["PROVIDERS_URL"]) as control:
            control.fault("openai", "slow", times=None, ms=5000)
        yield stack
    finally:
        stack.stop(delete=True)


def test_stop_finishes_generations(busy: Stack) -> None:
    env = Env.of(busy)
    client = env.client()
    made = client.auth.sign_up({"email": "ann@example.com", "password": "correct horse"})
    assert made.user and made.session
    ann = User(client, made.user.id, "", "", made.session.access_token)
    env.client(env.secret_key).rpc(
        "grant_credits", {"user_id": ann.id, "amount": 90, "source": "bonus"}
    ).execute()

    def generate(seconds: float) -> httpx.Response | None:
        try:
            return httpx.post(
                f"{env.functions_url}/generate", json=BODY, headers=ann.headers(env), timeout=seconds
            )
        except httpx.ReadTimeout:
            return None

    with psycopg.connect(env.db_url, autocommit=True) as db, ThreadPoolExecutor(2) as pool:
        patient, hasty = pool.submit(generate, 30), pool.submit(generate, 1)
        assert hasty.result() is None  # gone; its job goes on
        asked = "select count(*) from public.generation_jobs where status = 'dispatched'"
        until(lambda: db.execute(asked).fetchone() == (2,))
        busy.stop()
        answer = patient.result()
    assert answer and answer.status_code == 200, answer
    assert answer.json()["credits_charged"] == 10

    busy.start(ticker=False)  # nothing but the function itself may have ended them
    with psycopg.connect(env.db_url, autocommit=True) as db:
        jobs = db.execute("select status from public.generation_jobs").fetchall()
        assert jobs == [("succeeded",), ("succeeded",)]
        spent = db.execute("select sum(amount) from public.credit_transactions where amount < 0").fetchone()
        assert spent == (-20,)
