"""One topic that one client has joined, and the presences on a topic."""

import asyncio
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .filters import Wanted
from .frames import Broadcast, dumps
from .store import Claims, Rights, Simple
from .wal import Change

if TYPE_CHECKING:
    from .connection import Connection

# Whether it is private, and its name without `realtime:`. A private topic and a public one are two.
Topic = tuple[bool, str]


class Rate:
    """So many in so many seconds, and no more."""

    def __init__(self, most: int, seconds: float) -> None:
        self._seconds = seconds
        self._past: deque[float] = deque(maxlen=most)

    def spend(self) -> bool:
        """Count one; False when it is one too many."""
        now = time.monotonic()
        past = self._past
        if past.maxlen == len(past) and now - past[0] < self._seconds:
            return False
        past.append(now)
        return True


@dataclass
class Binding:
    """One entry of `postgres_changes`. `simple` is None until the database has agreed to it."""

    id: int
    params: dict[str, Any]
    wanted: Wanted | None = None
    simple: Simple | None = None

    def may_want(self, change: Change) -> bool:
        """False when it is certain that the change is not asked for; SQL decides the rest."""
        relation = change.relation
        if self.wanted is None or self.simple is None:
            return False
        if not self.wanted.matches(change.action, relation.schema, relation.table):
            return False
        for column, values in self.simple.get(relation.oid, {}).items():
            if change.new.get(column) not in values and change.old.get(column) not in values:
                return False
        return True


@dataclass(eq=False)
class Channel:
    """What a client has joined, with what its token allows."""

    connection: "Connection"
    name: str  # with `realtime:`
    topic: Topic
    join_ref: str | None
    token: str
    claims: Claims
    rights: Rights
    bindings: list[Binding]
    presence_key: str
    presence_enabled: bool
    acknowledges: bool
    hears_itself: bool
    tracked: dict[str, Any] | None = None
    presences: Rate = field(default_factory=lambda: Rate(5, 30.0))
    subscribing: "asyncio.Task[None] | None" = None
    expiry: asyncio.TimerHandle | None = None

    @property
    def may_read_presence(self) -> bool:
        """Whether it hears who comes and goes."""
        return self.rights.read_presence

    def push(self, event: str, payload: str) -> None:
        """Send a message; the payload is JSON text."""
        self.connection.push(self.name, event, payload, None, self.join_ref)

    def reply(self, ref: str | None, status: str, response: str = "{}") -> None:
        """Answer the message with that ref."""
        payload = f'{{"status":"{status}","response":{response}}}'
        self.connection.push(self.name, "phx_reply", payload, ref, self.join_ref)

    def broadcast(self, broadcast: Broadcast) -> None:
        """Send what another client, or SQL, says."""
        self.connection.push_broadcast(self.name, broadcast)

    def system(self, extension: str, status: str, message: str) -> None:
        """Tell how it goes with an extension."""
        said = {"extension": extension, "status": status, "message": message, "channel": self.topic[1]}
        self.push("system", dumps(said))

    def stop(self) -> None:
        """End what runs for it."""
        for running in (self.subscribing, self.expiry):
            if running:
                running.cancel()


class Presences:
    """Who says to be on a topic: by key, what each channel tracks."""

    def __init__(self) -> None:
        self._by_key: dict[str, dict[Channel, dict[str, Any]]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def state(self) -> str:
        """All of them, as JSON text."""
        return dumps({key: {"metas": list(metas.values())} for key, metas in self._by_key.items()})

    def track(self, channel: Channel, payload: dict[str, Any]) -> str:
        """Note what a channel tracks now. Returns the difference, as JSON text."""
        key, meta = channel.presence_key, {**payload, "phx_ref": uuid.uuid4().hex[:16]}
        before = self._by_key.get(key, {}).get(channel)
        if before:
            meta["phx_ref_prev"] = before["phx_ref"]
        self._by_key.setdefault(key, {})[channel] = meta
        leaves = {key: {"metas": [before]}} if before else {}
        return dumps({"joins": {key: {"metas": [meta]}}, "leaves": leaves})

    def untrack(self, channel: Channel) -> str | None:
        """Forget a channel. Returns the difference, as JSON text; None when it tracked nothing."""
        key = channel.presence_key
        metas = self._by_key.get(key, {})
        meta = metas.pop(channel, None)
        if not metas:
            self._by_key.pop(key, None)
        return dumps({"joins": {}, "leaves": {key: {"metas": [meta]}}}) if meta else None
