"""Broadcasts and presences, public and private, from clients, from SQL and by HTTP."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest

from tests.local.realtime.client import Json, raw
from tests.support.stack import Env, User

Db = psycopg.Connection[Any]
MakeUser = Callable[..., User]
VERSIONS = ("1.0.0", "2.0.0")

# A topic `credits:USER` is its user's: to read, and broadcasts only to write.
POLICIES = """
create policy test_read on realtime.messages for select to authenticated
using (realtime.topic() = 'credits:' || (select auth.uid()));
create policy test_write on realtime.messages for insert to authenticated
with check (realtime.topic() = 'credits:' || (select auth.uid()) and extension = 'broadcast');
"""


@pytest.fixture(scope="module")
def policies(env: Env) -> Iterator[Db]:
    """A connection as postgres, and policies on private topics."""
    with psycopg.connect(env.db_url, autocommit=True) as db:
        db.execute(POLICIES.encode())
        yield db
        db.execute("drop policy test_read on realtime.messages; drop policy test_write on realtime.messages")


def said(event: str, payload: Any) -> Json:
    return {"type": "broadcast", "event": event, "payload": payload}


@pytest.mark.parametrize("sender", VERSIONS)
@pytest.mark.parametrize("listener", VERSIONS)
def test_a_broadcast_reaches_the_others(env: Env, sender: str, listener: str) -> None:
    topic = f"realtime:{uuid.uuid4()}"
    with raw(env, sender) as one, raw(env, listener) as two, raw(env, listener) as away:
        assert (
            one.join(topic.removeprefix("realtime:"), broadcast={"ack": True, "self": False})["status"]
            == "ok"
        )
        assert two.join(topic.removeprefix("realtime:"))["status"] == "ok"
        assert away.join("elsewhere")["status"] == "ok"
        assert one.ask(topic, "broadcast", said("move", {"x": 1, "é": ["ü", 2**60]})) == {
            "status": "ok", "response": {},
        }  # fmt: skip
        heard = two.until("broadcast")
        assert heard.topic == topic
        assert heard.payload == said("move", {"x": 1, "é": ["ü", 2**60]})
        # Not itself, and not who is elsewhere: what is heard next is an answer.
        for other in (one, away):
            ref = other.say("phoenix", "heartbeat", {})
            assert other.hear().ref == ref


def binary(topic: str, event: str, payload: bytes, encoding: int) -> bytes:
    """A broadcast as supabase-js sends it from version 2.0.0 on."""
    parts = [b"1", b"9", topic.encode(), event.encode(), b""]
    return bytes((3, *map(len, parts), encoding)) + b"".join(parts) + payload


def test_binary_broadcasts(env: Env) -> None:
    topic = f"realtime:{uuid.uuid4()}"
    with raw(env, "2.0.0") as one, raw(env, "2.0.0") as two, raw(env, "1.0.0") as old:
        for client in (one, two, old):
            assert client.join(topic.removeprefix("realtime:"), broadcast={"self": True})["status"] == "ok"
        one.socket.send(binary(topic, "raw", b"\0\xff", 0))
        one.socket.send(binary(topic, "text", b'{"a": 1}', 1))
        for client in (one, two):
            assert client.until("broadcast").payload == said("raw", b"\0\xff")
            assert client.until("broadcast").payload == said("text", {"a": 1})
        # 1.0.0 has no bytes.
        assert old.until("broadcast").payload == said("text", {"a": 1})


@pytest.mark.parametrize("version", VERSIONS)
def test_private_topics_are_for_whom_policies_let_in(
    env: Env, user: MakeUser, policies: Db, version: str
) -> None:
    mine, other = user(), user()
    topic = f"credits:{mine.id}"
    with raw(env, version) as client, raw(env, version) as stranger, raw(env, version) as public:
        assert (
            client.join(topic, mine.token, private=True, broadcast={"ack": True, "self": True})["status"]
            == "ok"
        )
        for token in (other.token, None):
            refused = stranger.join(topic, token, private=True)
            assert refused["response"]["reason"] == (
                f"Unauthorized: You do not have permissions to read from this Channel topic: {topic}"
            )
        # The public topic of that name is another one: nothing comes from the private, nor goes there.
        assert public.join(topic, other.token, broadcast={"ack": True})["status"] == "ok"
        assert public.ask(f"realtime:{topic}", "broadcast", said("forged", {}))["status"] == "ok"
        assert client.ask(f"realtime:{topic}", "broadcast", said("mine", {"n": 1}))["status"] == "ok"
        own = [heard for heard in client.passed if heard.event == "broadcast"]
        assert [heard.payload for heard in own] == [said("mine", {"n": 1})]
        ref = public.say("phoenix", "heartbeat", {})
        assert public.hear().ref == ref
        # Presence is not among what may be written.
        tracked = client.ask(f"realtime:{topic}", "presence", {"event": "track", "payload": {}})
        assert tracked["status"] == "error"
        # With another's token it is no longer one's own.
        client.say(f"realtime:{topic}", "access_token", {"access_token": other.token})
        assert "permission" in client.until("system").payload["message"]
        client.until("phx_close")


def test_broadcasts_from_sql(env: Env, user: MakeUser, policies: Db) -> None:
    mine, other = user(), user()
    topic = f"credits:{mine.id}"
    with raw(env, "2.0.0") as client, raw(env) as stranger:
        # A subscription to changes tells when nothing is missed any more.
        client.watch(topic, mine.token, {"event": "*", "schema": "public"}, private=True)
        stranger.watch(topic, other.token, {"event": "*", "schema": "public", "table": "credit_accounts"})
        send = "select realtime.send(%s, %s, %s, %s)"
        with policies.transaction(force_rollback=True):
            policies.execute(send, ['{"n": 0}', "changed", topic, True])
        with policies.transaction():
            policies.execute(send, ['{"n": 1}', "changed", topic, True])
            policies.execute(send, ['{"id": "own"}', "changed", topic, True])
            policies.execute("select realtime.send_binary('\\x00ff', 'bytes', %s)", [topic])
            policies.execute(send, ['{"n": 2}', "public", topic, False])
        first, second, third = (client.until("broadcast").payload for _ in range(3))
        assert first["payload"] == {"n": 1, "id": first["meta"]["id"]}
        assert (first["event"], first["type"], second["payload"]) == ("changed", "broadcast", {"id": "own"})
        assert (third["event"], third["payload"]) == ("bytes", b"\0\xff")
        heard = stranger.until("broadcast")
        assert (heard.payload["event"], heard.payload["payload"]["n"]) == ("public", 2)


def test_a_users_own_send_is_held_to_the_policies(env: Env, user: MakeUser, policies: Db) -> None:
    mine, other = user(), user()

    def sends(as_user: User) -> int:
        with policies.transaction(force_rollback=True):
            claims = json.dumps({"sub": as_user.id, "role": "authenticated"})
            policies.execute("select set_config('request.jwt.claims', %s, true)", [claims])
            policies.execute("set local role authenticated")
            policies.execute("select realtime.send('{}', 'e', %s)", [f"credits:{mine.id}"])
            policies.execute("reset role")
            row = policies.execute(
                "select count(*) from realtime.messages where topic = %s", [f"credits:{mine.id}"]
            ).fetchone()
            assert row
            return int(row[0])

    assert (sends(mine), sends(other)) == (1, 0)


def test_changes_by_a_trigger(env: Env, user: MakeUser, policies: Db) -> None:
    mine = user()
    policies.execute(
        "create table public.told (id int primary key, owner uuid);"
        "create function public.tell() returns trigger language plpgsql security definer as $$ begin "
        "perform realtime.broadcast_changes('credits:' || new.owner, tg_op, tg_op, tg_table_name, "
        "tg_table_schema, new, old); return null; end $$;"
        "create trigger tell after insert on public.told for each row execute function public.tell()"
    )
    try:
        with raw(env) as client:
            client.watch(f"credits:{mine.id}", mine.token, {"event": "*", "schema": "public"}, private=True)
            policies.execute("insert into public.told values (1, %s)", [mine.id])
            heard = client.until("broadcast").payload
    finally:
        policies.execute("drop table public.told; drop function public.tell()")
    assert heard["event"] == "INSERT"
    assert heard["payload"] | {"id": None} == {
        "id": None, "operation": "INSERT", "table": "told", "schema": "public", "old_record": None,
        "record": {"id": 1, "owner": mine.id},
    }  # fmt: skip


def test_broadcasts_by_http(env: Env, user: MakeUser, policies: Db) -> None:
    mine, other = user(), user()
    private, public = f"credits:{mine.id}", f"room {uuid.uuid4()}/1"
    base = f"{env.api_url}/realtime/v1/api/broadcast"

    def batch(headers: dict[str, str], *messages: Json) -> int:
        return httpx.post(base, headers=headers, json={"messages": list(messages)}).status_code

    with raw(env) as client:
        client.join(private, mine.token, private=True)
        client.join(public, mine.token)
        forged = {"topic": private, "event": "forged", "payload": {}, "private": True}
        assert batch(other.headers(env), forged) == 202  # who may not write is not told, as hosted
        assert batch(mine.headers(env), {**forged, "event": "right"}) == 202
        assert client.until("broadcast").payload == said("right", {})
        named = f"{base}/{quote(public, safe='')}/events/hello"
        sent = httpx.post(named, headers=other.headers(env), json={"a": 1})
        assert (sent.status_code, client.until("broadcast").payload) == (202, said("hello", {"a": 1}))

        assert httpx.post(base, json={"messages": []}).status_code == 401
        expired = {**mine.headers(env), "Authorization": "Bearer a.b.c"}
        assert batch(expired, {**forged, "private": False}) == 401
        for body in ({}, {"messages": 1}, {"messages": [{"topic": 1, "event": "e", "payload": {}}]}):
            assert httpx.post(base, headers=mine.headers(env), json=body).status_code == 422
        absent = httpx.get(base.replace("broadcast", "other"), headers=mine.headers(env))
        assert absent.status_code == 404 and "it serves the WebSocket" in absent.json()["message"]


@pytest.mark.parametrize("version", VERSIONS)
def test_presence(env: Env, version: str) -> None:
    name = str(uuid.uuid4())
    topic = f"realtime:{name}"

    def track(payload: Json) -> Json:
        return {"type": "presence", "event": "track", "payload": payload}

    with raw(env, version) as one:
        one.join(name, presence={"enabled": True, "key": "ann"})
        assert one.until("presence_state").payload == {}
        assert one.ask(topic, "presence", track({"at": 1}))["status"] == "ok"
        with raw(env) as two:
            two.join(name, presence={"enabled": True, "key": ""})
            (there,) = two.until("presence_state").payload["ann"]["metas"]
            assert there["at"] == 1
            assert two.ask(topic, "presence", track({"at": 2}))["status"] == "ok"
            come = one.until("presence_diff", lambda heard: "ann" not in heard.payload["joins"]).payload
            (key,) = come["joins"]
            assert (come["joins"][key]["metas"][0]["at"], come["leaves"]) == (2, {})
            one.say(topic, "presence", track({"at": 3}))
            moved = two.until("presence_diff", lambda heard: "ann" in heard.payload["joins"]).payload
            assert moved["joins"]["ann"]["metas"][0]["phx_ref_prev"] == there["phx_ref"]
            assert moved["leaves"]["ann"]["metas"][0]["phx_ref"] == there["phx_ref"]
            one.say(topic, "presence", {"event": "untrack"})
            assert list(two.until("presence_diff").payload["leaves"]) == ["ann"]
        # The connection is gone, and its presence with it.
        gone = one.until("presence_diff", lambda heard: key in heard.payload["leaves"]).payload
        assert gone["joins"] == {}
