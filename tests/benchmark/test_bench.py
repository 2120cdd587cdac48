"""scripts/bench works from end to end. What it measures in a second means nothing and is not looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmark.cli import table
from scripts.benchmark.runner import Result
from scripts.benchmark.server import Sample
from tests.support.stack import ROOT


@pytest.mark.slow
def test_bench_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    before = {folder.name for folder in (ROOT / ".stack").glob("bench-*")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "scripts.benchmark",
            "--quick",
            "--only",
            "consume_key",
            "--only",
            "settlement",
            "--only",
            "sparse",
            "--wal-level",
            "logical",
            "--only",
            "webhooks",
            "--only",
            "ingest",
            "--only",
            "generate_1",
            "--only",
            "generate_32",
            "--only",
            "generate_process",
            "--only",
            "generate_trips",
            "--only",
            "generate_memory",
            "--json",
            str(file),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert [result["name"] for result in written["results"]] == [
        "consume_key",
        "settlement",
        "settlement_bytes",
        "sparse",
        "sparse_bytes",
        "webhooks",
        "ingest",
        "generate_1",
        "generate_1_p50",
        "generate_1_p99",
        "generate_32",
        "generate_32_p50",
        "generate_32_p99",
        "generate_process",
        "generate_process_p50",
        "generate_process_p99",
        "generate_trips",
        "generate_memory",
    ]
    # This one is counted, not timed.
    trips = written["results"][-2]
    assert trips["met"] and trips["ratio"] == 3
    assert "begin_generation, dispatch_generation, finish_generation" in trips["notes"][0]
    assert all(result["ratio"] > 0 and len(result["ratios"]) == 1 for result in written["results"])
    # What is judged by processor time says so beside it.
    assert written["results"][0]["cpu_goal"] == 1.3 and "(<= 1.30: " in done.stdout
    assert "Microseconds of a spend + of its settlement" in done.stdout
    assert written["machine"]["settings"]["wal_level"] == "logical"
    assert written["machine"]["postgres"] and written["machine"]["cores"] > 0
    assert "fsync" not in written["machine"]["settings"]
    assert "synchronous_commit" not in written["machine"]["settings"]
    assert "| consume_credits" in done.stdout or "| the same with an idempotency key" in done.stdout
    assert "jobs/s" in done.stdout and "generate adds" in done.stdout
    assert "round 1 of 1" in done.stderr
    assert {folder.name for folder in (ROOT / ".stack").glob("bench-*")} <= before


def test_a_ratio_is_the_median_of_neighbours_and_is_judged_by_its_goal() -> None:
    ours = [Sample(80), Sample(50), Sample(300)]
    peer = [Sample(100), Sample(100), Sample(100)]
    result = Result("x", "title", "peer", "tps", 0.80, True, ours, peer)
    assert result.ratios == [0.8, 0.5, 3.0]
    assert result.ratio == 0.8
    assert result.met is True
    slower = Result("x", "title", "peer", "ms", 0.79, False, ours, peer)
    assert slower.met is False
    assert "NOT MET" in table([slower])
    assert Result("x", "title", "peer", "ms", None, False, ours, peer).met is None
