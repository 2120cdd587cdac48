"""Messages of Phoenix channels in the two forms that clients speak: 1.0.0 objects, 2.0.0 arrays and frames.

A message is text except for broadcasts of 2.0.0, which may be binary: kind 3 from a client, kind 4 to it.
"""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

VERSIONS = ("1.0.0", "2.0.0")
BROADCAST_PUSH, BROADCAST = 3, 4
BYTES, JSON = 0, 1  # how a binary broadcast's payload is encoded


class FrameError(Exception):
    """What came is no message of the protocol."""


@dataclass(frozen=True)
class Broadcast:
    """What clients send each other: an event's name, its payload as JSON text or as bytes."""

    event: str
    payload: str | bytes
    meta: str = ""  # JSON text

    def text(self) -> str:
        """As the payload of a text message. Bytes cannot be one."""
        meta = f',"meta":{self.meta}' if self.meta else ""
        assert isinstance(self.payload, str)
        return f'{{"type":"broadcast","event":{dumps(self.event)},"payload":{self.payload}{meta}}}'


@dataclass(frozen=True)
class Message:
    """One from a client."""

    topic: str
    event: str
    payload: Any
    ref: str | None
    join_ref: str | None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def dumps(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _optional(value: object) -> str | None:
    return value if isinstance(value, str) else None


def decode(raw: str | bytes, version: str) -> Message:
    """A message from a client. Raises FrameError."""
    if isinstance(raw, bytes):
        return _binary(raw)
    try:
        # A half of a surrogate pair could be neither stored nor passed on.
        raw.encode()
        parsed = json.loads(raw, parse_constant=_no_constant)
        dumps(parsed).encode()
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from error
    if version == "2.0.0" and isinstance(parsed, list) and len(parsed) >= 5:
        join_ref, ref, topic, event, payload = parsed[:5]
    elif version == "1.0.0" and isinstance(parsed, dict):
        join_ref, ref, topic, event, payload = (
            parsed.get(name) for name in ("join_ref", "ref", "topic", "event", "payload")
        )
    else:
        raise FrameError(f"not a message of version {version}")
    if not isinstance(topic, str) or not isinstance(event, str):
        raise FrameError("topic and event have to be texts")
    return Message(topic, event, payload, _optional(ref), _optional(join_ref))


def _binary(raw: bytes) -> Message:
    """Kind, five lengths and an encoding, a byte each; then what they are the lengths of, and the payload."""
    if len(raw) < 7 or raw[0] != BROADCAST_PUSH:
        raise FrameError("the only binary message is a broadcast")
    parts, at = [], 7
    for length in raw[1:6]:
        parts.append(raw[at : at + length])
        at += length
    if at > len(raw):
        raise FrameError("a broadcast ends too early")
    try:
        join_ref, ref, topic, event, _meta = (part.decode() for part in parts)
        payload: str | bytes = raw[at:]
        if raw[6] == JSON:
            payload = dumps(json.loads(raw[at:], parse_constant=_no_constant))
            payload.encode()
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not a broadcast: {error}") from error
    return Message(topic, "broadcast", Broadcast(event, payload), ref or None, join_ref or None)


def encode(version: str, topic: str, event: str, payload: str, ref: str | None, join_ref: str | None) -> str:
    """A text message to a client; the payload is JSON text already."""
    if version == "2.0.0":
        head = ",".join(dumps(part) for part in (join_ref, ref, topic, event))
        return f"[{head},{payload}]"
    return f'{{"event":{dumps(event)},"payload":{payload},"ref":{dumps(ref)},"topic":{dumps(topic)}}}'


def encode_broadcast(version: str, topic: str, broadcast: Broadcast) -> str | bytes | None:
    """A broadcast to a client. None when its version cannot express it: 1.0.0 has no bytes."""
    names = [part.encode() for part in (topic, broadcast.event, broadcast.meta)]
    if version == "2.0.0" and all(len(name) <= 255 for name in names):
        binary = isinstance(broadcast.payload, bytes)
        payload = broadcast.payload if isinstance(broadcast.payload, bytes) else broadcast.payload.encode()
        head = bytes((BROADCAST, *map(len, names), BYTES if binary else JSON))
        return head + b"".join(names) + payload
    if isinstance(broadcast.payload, bytes):
        return None
    return encode(version, topic, "broadcast", broadcast.text(), None, None)
