"""Limits on how often."""

import time
from collections import deque


class Rate:
    """So many in so many seconds, and no more."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._past: deque[float] = deque(maxlen=max(most, 1))

    def spend(self) -> bool:
        """Count one; False when it is one too many."""
        if self.full():
            return False
        self._past.append(time.monotonic())
        return True

    def full(self) -> bool:
        """Whether the next is one too many."""
        if self._most < 1:
            return True
        return len(self._past) == self._most and time.monotonic() - self._past[0] < self._seconds


class Rates:
    """A rate for each of many, such as addresses."""

    MOST = 10_000

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._by: dict[str, Rate] = {}

    def of(self, name: str) -> Rate:
        """The rate of one."""
        if name not in self._by and len(self._by) >= self.MOST:
            self._by.clear()
        return self._by.setdefault(name, Rate(self._most, self._seconds))
