"""A client of the protocol itself, for what the official ones cannot say or do not show."""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tests.support.stack import Env

SUBSCRIBED = "Subscribed to PostgreSQL"
Json = dict[str, Any]


@dataclass(frozen=True)
class Heard:
    """A message from the server; of a binary one, the payload as 1.0.0 would have it."""

    topic: str
    event: str
    payload: Any
    ref: str | None = None


def address(env: Env, key: str | None = None, version: str = "1.0.0") -> str:
    """Where the WebSocket is."""
    base = env.api_url.replace("http", "ws")
    return f"{base}/realtime/v1/websocket?apikey={key or env.publishable_key}&vsn={version}"


def change(table: str, event: str = "*", **more: Any) -> Json:
    """A subscription to a table of schema public."""
    return {"event": event, "schema": "public", "table": table, **more}


@dataclass
class Raw:
    """One connection."""

    socket: Connection
    version: str
    refs: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    passed: list[Heard] = field(default_factory=list)

    def say(self, topic: str, event: str, payload: Any, join_ref: str | None = None) -> str:
        """Send a message. Returns its ref."""
        ref = str(next(self.refs))
        text = (
            [join_ref, ref, topic, event, payload]
            if self.version == "2.0.0"
            else {"topic": topic, "event": event, "payload": payload, "ref": ref, "join_ref": join_ref}
        )
        self.socket.send(json.dumps(text))
        return ref

    def hear(self) -> Heard:
        """The next message."""
        raw = self.socket.recv(timeout=20)
        if isinstance(raw, bytes):
            kind, topic, event, meta, encoding = raw[:5]
            assert kind == 4
            parts, at = [], 5
            for length in (topic, event, meta):
                parts.append(raw[at : at + length].decode())
                at += length
            content: Any = json.loads(raw[at:]) if encoding else raw[at:]
            payload = {"type": "broadcast", "event": parts[1], "payload": content}
            if parts[2]:
                payload["meta"] = json.loads(parts[2])
            return Heard(parts[0], "broadcast", payload)
        message = json.loads(raw)
        if self.version == "2.0.0":
            _, ref, name, what, payload = message
            return Heard(name, what, payload, ref)
        return Heard(message["topic"], message["event"], message["payload"], message["ref"])

    def until(self, event: str, matches: Callable[[Heard], bool] = lambda _: True) -> Heard:
        """The next message of that kind; what comes before goes to `passed`."""
        while True:
            heard = self.hear()
            if heard.event == event and matches(heard):
                return heard
            self.passed.append(heard)

    def reply(self, ref: str) -> Json:
        """The answer to a message: {status, response}."""
        payload: Json = self.until("phx_reply", lambda heard: heard.ref == ref).payload
        return payload

    def ask(self, topic: str, event: str, payload: Any) -> Json:
        """Send a message, and wait for the answer."""
        return self.reply(self.say(topic, event, payload))

    def join(self, topic: str, token: str | None = None, *changes: Json, **config: Any) -> Json:
        """Join a topic. Returns the answer."""
        payload: Json = {"config": {"postgres_changes": list(changes), **config}}
        if token is not None:
            payload["access_token"] = token
        return self.ask(f"realtime:{topic}", "phx_join", payload)

    def watch(self, topic: str, token: str | None, *changes: Json, **config: Any) -> list[int]:
        """Join, and wait until no change is missed any more. Returns the ids of the subscriptions."""
        answer = self.join(topic, token, *changes, **config)
        assert answer["status"] == "ok", answer
        said = self.until("system").payload
        assert (said["status"], said["message"]) == ("ok", SUBSCRIBED), said
        return [each["id"] for each in answer["response"]["postgres_changes"]]

    def hear_change(self) -> Json:
        """The next change: {ids, data}."""
        payload: Json = self.until("postgres_changes").payload
        return payload


@contextmanager
def raw(env: Env, version: str = "1.0.0", key: str | None = None) -> Iterator[Raw]:
    """A connection."""
    with connect(address(env, key, version), proxy=None, open_timeout=20) as socket:
        yield Raw(socket, version)
