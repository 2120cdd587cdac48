"""The command line of scripts/bench."""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.local.stack import Stack, ports
from scripts.local.stack.errors import StackError
from scripts.local.stack.processes import Interrupted, interruptible, start_time

from . import generations, measures, payments
from .machine import describe
from .runner import Options, Result, progress, run
from .server import Server

ROOT = Path(__file__).resolve().parents[2]
MEASURES = (*measures.MEASURES, *payments.MEASURES, *generations.MEASURES)

DESCRIPTION = """\
Measures the ledger on a stack of its own, which it deletes at the end. Each figure is the ratio to a
bare-minimum peer that ran in the same minute: the two alternate, and the median of the rounds counts.
Commits are durable (Postgres's defaults). Nothing else should keep the machine busy meanwhile.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of scripts/bench."""
    names = "\n".join(f"  {measure.name:<16} {measure.title}" for measure in MEASURES)
    top = argparse.ArgumentParser(
        prog="scripts/bench",
        description=DESCRIPTION,
        epilog=f"measures:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=[m.name for m in MEASURES],
        help="one measure; may be repeated",
    )
    top.add_argument("--rounds", type=int, help="pairs of runs for each measure (default: 5; quick: 1)")
    top.add_argument("--seconds", type=float, help="length of one run (default: 5; quick: 0.3)")
    top.add_argument(
        "--wal-level",
        choices=("replica", "logical"),
        default="replica",
        help="of both sides; hosted projects run with logical, for Realtime (default: replica)",
    )
    top.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=ROOT / ".stack" / "bench.json",
        help="default: .stack/bench.json",
    )
    top.add_argument(
        "--quick",
        action="store_true",
        help="a hundredth of every size, and few transactions: shows that it works, measures nothing",
    )
    return top


def sweep() -> None:
    """Delete the stacks of runs that were killed."""
    for folder in (ROOT / ".stack").glob("bench-*"):
        pid = folder.name.removeprefix("bench-")
        if folder.is_dir() and pid.isdigit() and start_time(int(pid)) is None:
            Stack(ROOT, folder.name).stop(delete=True)


def measure(
    names: Sequence[str], options: Options, wal_level: str = "replica"
) -> tuple[dict[str, object], list[Result]]:
    """Start the stack, run the measures, delete the stack. Returns the machine and the results."""
    sweep()
    stack = Stack(ROOT, f"bench-{os.getpid()}", ports.free_pair(), say=progress)
    try:
        # The benchmark says when maintenance runs.
        stack.start(ticker=False)
        server = Server(stack, options.rate)
        if wal_level != "logical":  # which the stack has
            with server.connect() as admin:
                admin.execute(f"alter system set wal_level = '{wal_level}'")
            stack.stop()
            stack.start(ticker=False)
            server = Server(stack, options.rate)
        machine = describe(server)
        results = [
            row
            for kind in MEASURES
            if kind.name in names
            for row in run(kind(server, options), options.rounds)
        ]
    finally:
        stack.stop(delete=True)
    return machine, results


def figure(value: float) -> str:
    """A figure with about four digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _judged(goal: float | None, met: bool | None) -> str:
    return "" if goal is None else f" (<= {goal:.2f}: {'met' if met else 'NOT MET'})"


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    rows = [
        (
            "measure",
            "peer",
            "ours",
            "peer's",
            "ratio",
            "rounds from - to",
            "goal",
            "",
            "CPU ratio",
            "WAL ratio",
        )
    ]
    for result in results:
        sign = ">=" if result.more_is_better else "<="
        cpu, wal = result.cpu_ratio(), result.wal_ratio()
        rows.append(
            (
                result.title,
                result.peer_title,
                f"{figure(statistics.median(s.value for s in result.ours))} {result.unit}",
                f"{figure(statistics.median(s.value for s in result.peer))} {result.unit}",
                f"{result.ratio:.2f}",
                f"{min(result.ratios):.2f} - {max(result.ratios):.2f}",
                "" if result.goal is None else f"{sign} {result.goal:.2f}",
                {None: "", True: "met", False: "NOT MET"}[result.met],
                "" if cpu is None else f"{cpu:.2f}" + _judged(result.cpu_goal, result.cpu_met),
                "" if wal is None else f"{wal:.2f}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def report(machine: dict[str, object], results: Sequence[Result], options: Options) -> str:
    """The whole text that goes to stdout."""
    settings = machine["settings"]
    assert isinstance(settings, dict)
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}; "
        f"load average {machine['load_average_before']} before.",
        f"PostgreSQL {machine['postgres']}; not its defaults: "
        + (", ".join(f"{name} = {value}" for name, value in settings.items()) or "none")
        + ".",
        f"Median of {options.rounds} rounds of {options.seconds:g} s a side, alternating. "
        "CPU and WAL ratios: of Postgres's backends, for one transaction; less is better. "
        "Maintenance runs only where the measure says so.",
        "",
        table(results),
    ]
    notes = [f"{result.name}: {note}" for result in results for note in result.notes]
    if notes:
        lines += ["", *notes]
    if options.scale > 1:
        lines += ["", "--quick: sizes and times are too small for these figures to mean anything."]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status: 0 also when a goal is missed, for the figures are what was asked for."""
    arguments = parser().parse_args(argv)
    quick = arguments.quick
    options = Options(
        rounds=arguments.rounds or (1 if quick else 5),
        seconds=arguments.seconds or (0.3 if quick else 5),
        scale=100 if quick else 1,
        rate=50 if quick else None,
    )
    names = arguments.only or [kind.name for kind in MEASURES]
    began = time.monotonic()
    try:
        with interruptible():
            machine, results = measure(names, options, arguments.wal_level)
    except StackError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupt:
        print("Interrupted; the benchmark's stack is deleted.", file=sys.stderr)
        return 128 + interrupt.signum
    print(report(machine, results, options))
    arguments.json.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments.json.write_text(
        json.dumps(
            {"machine": machine, "options": vars(options), "results": [r.as_json() for r in results]},
            indent=2,
        )
        + "\n"
    )
    progress(f"\nTook {time.monotonic() - began:.0f} s; written to {arguments.json}.")
    return 0
