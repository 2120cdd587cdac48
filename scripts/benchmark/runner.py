"""Alternates the two sides of a measure and compares each pair of neighbours."""

import statistics
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from .server import Sample, Server


@dataclass(frozen=True)
class Options:
    """How long and how large. `scale` divides every size; 1 is the real thing. `rate`: at most so many
    transactions a second of pgbench.
    """

    rounds: int
    seconds: float
    scale: int
    rate: int | None = None

    def size(self, full: int, at_least: int = 1) -> int:
        """A number of accounts or rows, scaled."""
        return max(at_least, full // self.scale)


class Measure(ABC):
    """One row of the table: ours against a peer.

    `goal` is the bound of the ratio ours / peer: at least it when more is better, at most it when less
    is. None: for information only.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    peer: ClassVar[str]
    unit: ClassVar[str] = "tps"
    more_is_better: ClassVar[bool] = True
    goal: ClassVar[float | None] = None
    cpu_goal: ClassVar[float | None] = None
    """At most what the ratio of processor time may be."""
    once: ClassVar[bool] = False
    """Whether there is one round, for what is counted or grows."""

    def __init__(self, server: Server, options: Options) -> None:
        self.server, self.options = server, options
        self.notes: list[str] = []

    @abstractmethod
    def prepare(self) -> None:
        """Make what is measured, and warm it up."""

    @abstractmethod
    def run_ours(self) -> Sample:
        """Our side of a round."""

    @abstractmethod
    def run_peer(self) -> Sample:
        """The peer's side of a round."""

    def finish(self) -> None:  # noqa: B027
        """Check and clean up, after the last round."""

    def close(self) -> None:  # noqa: B027
        """End what prepare() has started, whatever has happened since."""

    def rows(self, result: "Result") -> list["Result"]:
        """What the table shows of it: one row, unless a run tells several figures."""
        return [result]


@dataclass
class Result:
    """A measure's rounds and what they come to."""

    name: str
    title: str
    peer_title: str
    unit: str
    goal: float | None
    more_is_better: bool
    ours: list[Sample] = field(default_factory=list)
    peer: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cpu_goal: float | None = None

    @property
    def ratios(self) -> list[float]:
        """Ours / peer of each round."""
        return [a.value / b.value for a, b in zip(self.ours, self.peer, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.more_is_better else self.ratio <= self.goal

    def cpu_ratio(self) -> float | None:
        """The median of the rounds' ratios of backend CPU time for one transaction; less is better."""
        return _pair_ratio([s.cpu_us for s in self.ours], [s.cpu_us for s in self.peer])

    @property
    def cpu_met(self) -> bool | None:
        """Whether the goal of the processor time is reached; None without a goal or a figure."""
        ratio = self.cpu_ratio()
        return None if self.cpu_goal is None or ratio is None else ratio <= self.cpu_goal

    def wal_ratio(self) -> float | None:
        """The same for bytes of WAL."""
        return _pair_ratio([s.wal_bytes for s in self.ours], [s.wal_bytes for s in self.peer])

    def as_json(self) -> dict[str, object]:
        """Everything, for the file."""
        return {
            "name": self.name,
            "title": self.title,
            "peer": self.peer_title,
            "unit": self.unit,
            "goal": self.goal,
            "more_is_better": self.more_is_better,
            "met": self.met,
            "ratio": round(self.ratio, 4),
            "ratios": [round(ratio, 4) for ratio in self.ratios],
            "ours": [vars(sample) for sample in self.ours],
            "peers": [vars(sample) for sample in self.peer],
            "cpu_ratio": self.cpu_ratio(),
            "cpu_goal": self.cpu_goal,
            "cpu_met": self.cpu_met,
            "wal_ratio": self.wal_ratio(),
            "notes": self.notes,
        }


def _pair_ratio(ours: Sequence[float | None], peer: Sequence[float | None]) -> float | None:
    ratios = [a / b for a, b in zip(ours, peer, strict=True) if a is not None and b]
    return statistics.median(ratios) if ratios else None


def run(measure: Measure, rounds: int) -> list[Result]:
    """Prepare, then alternate the sides, the first of each round in turn. Returns the measure's rows."""
    try:
        return measure.rows(_run(measure, 1 if measure.once else rounds))
    finally:
        measure.close()


def _run(measure: Measure, rounds: int) -> Result:
    result = Result(
        measure.name,
        measure.title,
        measure.peer,
        measure.unit,
        measure.goal,
        measure.more_is_better,
        notes=measure.notes,
        cpu_goal=measure.cpu_goal,
    )
    progress(f"{measure.name}: preparing")
    measure.prepare()
    for number in range(rounds):
        if number % 2:
            ours, peer = measure.run_ours(), measure.run_peer()
        else:
            peer, ours = measure.run_peer(), measure.run_ours()
        result.ours.append(ours)
        result.peer.append(peer)
        cpu = f", CPU {ours.cpu_us:.0f} / {peer.cpu_us:.0f} us" if ours.cpu_us and peer.cpu_us else ""
        progress(
            f"{measure.name}: round {number + 1} of {rounds}: "
            f"{ours.value:,.2f} / {peer.value:,.2f} {measure.unit} = {ours.value / peer.value:.3f}{cpu}"
        )
    measure.finish()
    return result


def progress(line: str) -> None:
    """Tell on stderr what goes on."""
    print(line, file=sys.stderr, flush=True)
