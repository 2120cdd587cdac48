"""The same through PostgREST: many clients at once, each with a user's token."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from postgrest.exceptions import APIError

from supabase import Client
from tests.support.stack import Env, User


def user_with(service: Client, user: Callable[..., User], balance: int) -> User:
    """A signed-in user whose balance is exactly that, the sign-up bonus included."""
    made = user()
    have: Any = made.client.table("user_credits").select("balance").single().execute().data
    arguments = {"user_id": made.id, "amount": balance - have["balance"], "source": "purchase"}
    service.rpc("grant_credits", arguments).execute()
    return made


async def together(env: Env, user: User, calls: list[tuple[str, dict[str, Any]]]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=len(calls), max_keepalive_connections=len(calls))
    async with httpx.AsyncClient(
        base_url=f"{env.api_url}/rest/v1", headers=user.headers(env), limits=limits, timeout=60
    ) as client:
        # A connection for each, open before the race.
        await asyncio.gather(*(client.get("/pricing_tiers", params={"limit": 1}) for _ in calls))
        return list(await asyncio.gather(*(client.post(f"/rpc/{name}", json=body) for name, body in calls)))


@pytest.mark.parametrize("function", ["hold_credits", "consume_credits"])
def test_twenty_requests_take_75_of_500_credits_and_six_get_them(
    env: Env, service: Client, user: Callable[..., User], function: str
) -> None:
    spender = user_with(service, user, 500)
    answers = asyncio.run(
        together(env, spender, [(function, {"operation": "image_edit", "quantity": 5})] * 20)
    )
    assert Counter(answer.status_code for answer in answers) == {200: 6, 402: 14}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 402} == {"PT402"}
    left = spender.client.table("user_credits").select("available").single().execute().data
    assert left == {"available": 50}
    assert service.rpc("verify_ledger", {"user_id": spender.id}).execute().data == []


def test_ten_requests_with_one_key_get_one_answer(
    env: Env, service: Client, user: Callable[..., User]
) -> None:
    spender = user_with(service, user, 100)
    body = {"operation": "image_edit", "idempotency_key": str(uuid.uuid4())}
    answers = asyncio.run(together(env, spender, [("consume_credits", body)] * 10))
    assert [answer.status_code for answer in answers] == [200] * 10
    assert [answer.json() for answer in answers] == [answers[0].json()] * 10
    spent = spender.client.table("credit_transactions").select("id").eq("kind", "spend").execute().data
    assert len(spent) == 1


def test_supabase_py_clients_in_threads(service: Client, user: Callable[..., User], env: Env) -> None:
    """Ten supabase-py clients of one user: as many spends as there are credits for."""
    spender = user_with(service, user, 50)

    async def spend(client: Client) -> str:
        def call() -> str:
            try:
                client.rpc("consume_credits", {"operation": "dalle3_image"}).execute()
            except APIError as error:
                return str(error.code)
            return "spent"

        return await asyncio.to_thread(call)

    async def all_of_them() -> list[str]:
        clients = [env.client() for _ in range(10)]
        for client in clients:
            client.auth.sign_in_with_password({"email": spender.email, "password": spender.password})
        return list(await asyncio.gather(*(spend(client) for client in clients)))

    assert Counter(asyncio.run(all_of_them())) == {"spent": 5, "PT402": 5}


def test_sign_ups_at_once_each_get_one_account(env: Env, db: "psycopg.Connection[Any]") -> None:
    """Ten sign-ups through the auth server, each followed at once by a first spend."""

    async def sign_up(client: httpx.AsyncClient) -> str:
        body = {"email": f"{uuid.uuid4().hex}@example.com", "password": "correct horse"}
        answer = (await client.post("/auth/v1/signup", json=body)).raise_for_status().json()
        headers = {"Authorization": f"Bearer {answer['access_token']}"}
        (
            await client.post(
                "/rest/v1/rpc/consume_credits", json={"operation": "stable_diffusion"}, headers=headers
            )
        ).raise_for_status()
        user_id: str = answer["user"]["id"]
        return user_id

    async def all_of_them() -> list[str]:
        async with httpx.AsyncClient(
            base_url=env.api_url, headers={"apikey": env.publishable_key}, timeout=60
        ) as client:
            return list(await asyncio.gather(*(sign_up(client) for _ in range(10))))

    users = asyncio.run(all_of_them())
    found = db.execute(
        "select count(*), count(distinct user_id) from public.credit_accounts "
        "where user_id = any (%s::uuid[])",
        (users,),
    ).fetchone()
    assert found == (10, 10)
