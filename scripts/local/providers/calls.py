"""The log of calls: which the provider took, and so would bill."""

import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

KEPT = 20_000


@dataclass
class Call:
    """One request. `accepted` means that the provider began to work on it: such a call costs money.

    kind: create, poll, cancel, fetch (of an output's URL) or other (what aimock answers as it is).
    status: the HTTP status that was sent; None while under way, or when the connection was dropped.
    outputs: SHA-256 of each file handed out. at: seconds since 1970.
    """

    seq: int
    provider: str
    kind: str
    method: str
    path: str
    model: str | None = None
    n: int | None = None
    prompt: str | None = None
    accepted: bool = False
    status: int | None = None
    fault: str | None = None
    task: str | None = None
    outputs: list[str] = field(default_factory=list)
    at: float = field(default_factory=time.time)

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


class Calls:
    """The newest calls, oldest first."""

    def __init__(self) -> None:
        self._kept: deque[Call] = deque(maxlen=KEPT)
        self._last = 0

    def begin(self, provider: str, kind: str, method: str, path: str) -> Call:
        """Enter a call."""
        self._last += 1
        call = Call(self._last, provider, kind, method, path)
        self._kept.append(call)
        return call

    def find(self, provider: str | None, kind: str | None, match: str | None, after: int) -> list[Call]:
        """Calls that fit; None fits all. `match` is a part of the prompt."""
        return [
            call
            for call in self._kept
            if call.seq > after
            and provider in (None, call.provider)
            and kind in (None, call.kind)
            and (match is None or match in (call.prompt or ""))
        ]

    def clear(self) -> None:
        """Forget them. Numbers go on."""
        self._kept.clear()
