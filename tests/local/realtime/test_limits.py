"""What one client cannot do to the others, and what becomes of odd messages."""

import asyncio
import contextlib
import json
import socket
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.local.realtime.client import Raw, address, change, raw
from tests.support.clock import until
from tests.support.stack import Env, User

MakeUser = Callable[..., User]


def closed(client: Raw) -> tuple[int, str]:
    """With which code and words the server ends the connection."""
    with pytest.raises(ConnectionClosed) as ended:
        while True:
            client.hear()
    assert ended.value.rcvd
    return ended.value.rcvd.code, ended.value.rcvd.reason


@pytest.mark.parametrize(
    ("version", "frame", "code"),
    [
        ("1.0.0", "{", 1003), ("1.0.0", "[]", 1003), ("2.0.0", "{}", 1003), ("2.0.0", "[1,2,3]", 1003),
        ("1.0.0", '{"topic": 1, "event": "x"}', 1003), ("1.0.0", "[" * 100_000, 1003),
        ("1.0.0", '{"topic": "\\ud800", "event": "x"}', 1003), ("1.0.0", '{"topic": NaN}', 1003),
        ("2.0.0", b"", 1003), ("2.0.0", b"\x03\xff\xff\xff\xff\xff\x01", 1003), ("2.0.0", b"\x09" * 20, 1003),
        ("2.0.0", bytes((3, 0, 0, 0, 0, 0, 1)) + b"{", 1003), ("1.0.0", "x" * (1024 * 1024 + 1), 1009),
    ],
)  # fmt: skip
def test_what_is_no_message_ends_the_connection(
    env: Env, version: str, frame: str | bytes, code: int
) -> None:
    with raw(env, version) as client:
        client.socket.send(frame)
        assert closed(client)[0] == code


def test_odd_messages_are_answered(env: Env) -> None:
    with raw(env) as client:
        assert client.ask("phoenix", "heartbeat", {}) == {"status": "ok", "response": {}}
        for topic, payload, reason in (
            ("other:topic", {"config": {}}, "unmatched topic"),
            ("realtime:", {"config": {}}, "TopicNameRequired: You must provide a topic name"),
            ("realtime:a", {}, "InvalidJoinPayload: The local Realtime needs `config`"),
            ("realtime:a", None, "InvalidJoinPayload: The local Realtime needs `config`"),
            (
                "realtime:a",
                {"config": {"broadcast": 1}},
                "InvalidJoinPayload: `broadcast` has to be an object",
            ),
            ("realtime:a", {"config": {"postgres_changes": [1]}}, "InvalidJoinPayload: `postgres_changes`"),
            ("realtime:a", {"config": {"postgres_changes": [{}] * 101}}, "InvalidJoinPayload: more than 100"),
            (
                "realtime:a",
                {"config": {"broadcast": {"replay": {"since": 1}}}},
                "UnableToReplayMessages: The local",
            ),
        ):
            answer = client.ask(topic, "phx_join", payload)
            assert answer["status"] == "error" and answer["response"]["reason"].startswith(reason), answer
        assert client.ask("realtime:a", "broadcast", {})["response"] == {"reason": "unmatched topic"}
        client.join("a")
        assert client.ask("realtime:a", "broadcast", "text")["status"] == "error"
        client.say("realtime:a", "unknown", {})
        client.say("realtime:a", "access_token", None)
        assert client.ask("realtime:a", "phx_leave", {})["status"] == "ok"
        assert client.until("phx_close").topic == "realtime:a"


def test_joining_again_replaces_the_channel(env: Env, user: MakeUser) -> None:
    mine = user()
    with raw(env) as client:
        client.watch("a", mine.token, change("credit_accounts"))
        (again,) = client.watch("a", mine.token, change("credit_accounts"))
        assert [heard.event for heard in client.passed].count("phx_close") == 1
        mine.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
        assert client.hear_change()["ids"] == [again]
        ref = client.say("phoenix", "heartbeat", {})
        assert client.hear().ref == ref  # once only


def test_channels_and_joins_have_a_limit(env: Env) -> None:
    with raw(env) as client:
        answers = [client.join(f"{number}") for number in range(101)]
    reasons = {answer["response"].get("reason") for answer in answers[:100]}
    # Faster than 100 a second they are refused for that.
    assert reasons <= {None, "ClientJoinRateLimitReached: Too many joins per second"}
    assert answers[100]["response"]["reason"] in (
        "ChannelRateLimitReached: Too many channels", "ClientJoinRateLimitReached: Too many joins per second",
    )  # fmt: skip


def test_messages_and_presences_have_a_limit(env: Env) -> None:
    with raw(env) as client:
        client.join("a", broadcast={"ack": True})
        for _ in range(150):
            client.say("realtime:a", "broadcast", {"event": "e", "payload": {}})
        assert client.until("system").payload["message"] == "Too many messages per second"
        assert client.until("phx_close").topic == "realtime:a"
        client.join("b")
        large = {"event": "track", "payload": {"x": "x" * 70_000}}
        client.say("realtime:b", "presence", large)
        assert client.until("system").payload["message"] in (
            "Track message size exceeded", "Too many messages per second",
        )  # fmt: skip
        client.until("phx_close")
    with raw(env) as client:
        client.join("c")
        for number in range(6):
            client.say("realtime:c", "presence", {"event": "track", "payload": {"n": number}})
        assert client.until("system").payload["message"] == "Client presence rate limit exceeded"


def test_who_does_not_read_is_let_go_and_slows_nobody(env: Env) -> None:
    topic = str(uuid.uuid4())
    slow = socket.create_connection(
        (env.api_url.split("/")[2].split(":")[0], int(env.api_url.rpartition(":")[2]))
    )
    path = address(env, version="2.0.0").split("/", 3)[3]
    slow.sendall(
        f"GET /{path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )

    def masked(text: str) -> bytes:
        """A frame whose mask is zero."""
        body = text.encode()
        return bytes((0x81, 0x80 | 126)) + len(body).to_bytes(2, "big") + bytes(4) + body

    with raw(env) as client:
        client.join(topic, presence={"enabled": True, "key": "quick"})
        client.until("presence_state")
        config = {"config": {"presence": {"enabled": True, "key": "slow"}}}
        slow.sendall(masked(json.dumps(["1", "1", f"realtime:{topic}", "phx_join", config])))
        track = {"event": "track", "payload": {}}
        slow.sendall(masked(json.dumps(["1", "2", f"realtime:{topic}", "presence", track])))
        assert "slow" in client.until("presence_diff").payload["joins"]
        # More than its queue and every buffer between hold.
        large = {"messages": [{"topic": topic, "event": "e", "payload": {"x": "x" * 500_000}}]}
        headers = {"apikey": env.publishable_key}
        with httpx.Client(headers=headers) as api:
            for _ in range(60):
                sent = api.post(f"{env.api_url}/realtime/v1/api/broadcast", json=large)
                assert sent.status_code == 202
                assert len(client.until("broadcast").payload["payload"]["x"]) == 500_000
                if any(heard.event == "presence_diff" for heard in client.passed):
                    break
        gone = [heard for heard in client.passed if heard.event == "presence_diff"]
        gone = gone or [client.until("presence_diff")]
        assert "slow" in gone[-1].payload["leaves"]
    # Cut off, not waited for: after what was on the way there is nothing more.
    slow.settimeout(20)
    with contextlib.suppress(ConnectionResetError), slow:
        while slow.recv(1_000_000):
            pass


async def _hear_all(env: Env, users: list[User], spend: Callable[[User], None]) -> list[list[dict[str, Any]]]:
    """A connection for each user, without a filter. Returns what each has heard once all have spent."""
    sockets = [await connect(address(env), proxy=None, open_timeout=60) for _ in users]
    try:
        for each, its in zip(sockets, users, strict=True):
            config = {"config": {"postgres_changes": [change("credit_accounts")]}, "access_token": its.token}
            message = {
                "topic": "realtime:a",
                "event": "phx_join",
                "payload": config,
                "ref": "1",
                "join_ref": "1",
            }
            await each.send(json.dumps(message))
        for each in sockets:
            while "Subscribed to PostgreSQL" not in str(await asyncio.wait_for(each.recv(), 60)):
                pass
        for its in users:
            await asyncio.to_thread(spend, its)
        heard: list[list[dict[str, Any]]] = []
        for each in sockets:
            message = json.loads(await asyncio.wait_for(each.recv(), 60))
            heard.append([message["payload"]["data"]])
        # After the answer to a heartbeat nothing can be under way any more.
        for each, found in zip(sockets, heard, strict=True):
            await each.send(json.dumps({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "h"}))
            while (message := json.loads(await asyncio.wait_for(each.recv(), 60)))["ref"] != "h":
                found.append(message["payload"]["data"])
        return heard
    finally:
        for each in sockets:
            await each.close()


def test_a_hundred_subscribers_hear_what_is_theirs(env: Env, user: MakeUser) -> None:
    """Ten users with ten connections each: every change reaches its ten and no other."""
    people = [user() for _ in range(10)]
    users = [person for person in people for _ in range(10)]
    spent: set[str] = set()

    def spend(person: User) -> None:
        if person.id not in spent:
            spent.add(person.id)
            person.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()

    heard = asyncio.run(_hear_all(env, users, spend))
    assert [[data["record"]["user_id"] for data in each] for each in heard] == [[each.id] for each in users]


def test_no_slot_is_left_without_a_reader(env: Env, user: MakeUser, db: "psycopg.Connection[Any]") -> None:
    """It is the walsender's own: temporary, gone with the connection, so WAL never waits for nobody."""
    slots = "select slot_name, temporary, active from pg_replication_slots where plugin = 'pgoutput'"
    with raw(env) as client:
        client.watch("a", user().token, change("credit_accounts"))
        (slot,) = db.execute(slots).fetchall()
        assert slot[1:] == (True, True)
        # The walsender dies. A new one takes its place, and subscribers are told: they may have missed
        # something.
        db.execute("select pg_terminate_backend(pid) from pg_stat_replication where state = 'streaming'")
        assert client.until("system").payload["message"] == "Subscribed to PostgreSQL"
        until(lambda: len(db.execute(slots).fetchall()) == 1)
        (again,) = db.execute(slots).fetchall()
        assert again[0] != slot[0]
    row = db.execute(
        "select current_setting('wal_level'), current_setting('max_slot_wal_keep_size')"
    ).fetchone()
    assert row == ("logical", "1GB")
