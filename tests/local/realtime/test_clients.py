"""The official clients, as apps use them: supabase-py and supabase-js, unchanged."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from realtime.types import RealtimePostgresChangesListenEvent as Event

from supabase import AsyncClient, acreate_client
from tests.support.node import run_node
from tests.support.stack import Env, User

MakeUser = Callable[..., User]


@pytest.fixture(scope="module")
def own_topics(env: Env) -> Iterator[None]:
    """A private topic `credits:USER` is for its user."""
    policy = "using (realtime.topic() = 'credits:' || (select auth.uid()))"
    with psycopg.connect(env.db_url, autocommit=True) as db:
        db.execute(
            f"create policy own_read on realtime.messages for select to authenticated {policy}".encode()
        )
        db.execute(
            f"create policy own_write on realtime.messages for insert to authenticated with check "
            f"{policy.removeprefix('using ')}".encode()
        )
        yield
        db.execute("drop policy own_read on realtime.messages; drop policy own_write on realtime.messages")


async def _wait(queue: "asyncio.Queue[Any]") -> Any:
    return await asyncio.wait_for(queue.get(), 30)


async def _live_balance(env: Env, mine: User, other: User) -> dict[str, Any]:
    client: AsyncClient = await acreate_client(env.api_url, env.publishable_key)
    signed = await client.auth.sign_in_with_password({"email": mine.email, "password": mine.password})
    assert signed.session
    await client.realtime.set_auth(signed.session.access_token)
    changes: asyncio.Queue[Any] = asyncio.Queue()
    broadcasts: asyncio.Queue[Any] = asyncio.Queue()
    system: asyncio.Queue[Any] = asyncio.Queue()
    states: asyncio.Queue[Any] = asyncio.Queue()
    seen: dict[str, Any] = {}

    channel = client.channel("balance")
    channel.on_postgres_changes(Event.All, changes.put_nowait, table="credit_accounts", schema="public")
    channel.on_postgres_changes(
        Event.Update, changes.put_nowait, table="credit_accounts", schema="public", filter="balance=lt.0"
    )
    channel.on_system(system.put_nowait)
    await channel.subscribe(lambda state, error: states.put_nowait((state.value, error)))
    seen["status"] = await _wait(states)
    seen["system"] = (await _wait(system)).message
    await asyncio.to_thread(other.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute)
    spent = await client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    seen["spent"], seen["change"] = spent.data["balance_after"], await _wait(changes)  # type: ignore[index,call-overload]

    config: Any = {"config": {"private": True, "broadcast": {"ack": True, "self": True}, "presence": None}}
    own = client.channel(f"credits:{mine.id}", config)
    own.on_broadcast("hello", broadcasts.put_nowait)
    await own.subscribe()
    await own.send_broadcast("hello", {"n": 1})
    seen["broadcast"] = await _wait(broadcasts)
    foreign: Any = {"config": {"private": True, "broadcast": None, "presence": None}}
    await client.channel(f"credits:{other.id}", foreign).subscribe(
        lambda state, _: states.put_nowait(state.value)
    )
    seen["foreign"] = await _wait(states)
    await client.realtime.close()
    return seen


def test_supabase_py(env: Env, user: MakeUser, own_topics: None) -> None:
    mine, other = user(), user()
    seen = asyncio.run(_live_balance(env, mine, other))
    assert seen["status"] == ("SUBSCRIBED", None)
    assert seen["system"] == "Subscribed to PostgreSQL"
    # The first that is heard is one's own, though another spent before.
    assert seen["change"]["data"]["record"]["user_id"] == mine.id
    assert seen["change"]["data"]["record"]["available"] == seen["spent"] == 7
    assert seen["broadcast"]["payload"] == {"n": 1}
    assert seen["foreign"] == "CHANNEL_ERROR"


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_supabase_js(env: Env, user: MakeUser, own_topics: None, version: str) -> None:
    mine, other = user(), user()
    settings = {
        "API_URL": env.api_url, "PUBLISHABLE_KEY": env.publishable_key, "EMAIL": mine.email,
        "PASSWORD": mine.password, "OTHER_TOPIC": f"credits:{other.id}", "VSN": version,
    }  # fmt: skip
    seen = run_node(Path(__file__).with_name("client.mjs"), settings)
    account = seen.pop("account_id")
    assert "You do not have permissions to read from this Channel topic" in seen.pop("refusal")
    assert seen == {
        "status": "SUBSCRIBED", "system": "Subscribed to PostgreSQL",
        "changed": {"type": "UPDATE", "available": 7, "old": {"id": account}, "errors": None}, "spent": 7,
        "ownStatus": "SUBSCRIBED", "sent": "ok", "heard": {"n": 1}, "otherStatus": "CHANNEL_ERROR",
        "tracked": "ok", "present": "home", "resubscribed": "Subscribed to PostgreSQL", "left": seen["left"],
    }  # fmt: skip
