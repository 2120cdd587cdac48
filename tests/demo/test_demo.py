"""scripts/demo tells the truth: every step happens, it exits 0 only then, and it leaves nothing."""

import re
import subprocess
from pathlib import Path

import pytest

from scripts import demonstration
from scripts.local.stack import Stack

ROOT = Path(__file__).resolve().parents[2]


def gone() -> bool:
    return not Stack(ROOT, "demo").paths.state.exists()


def test_it_walks_every_step_and_stops_what_it_started() -> None:
    done = subprocess.run([ROOT / "scripts" / "demo"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.findall(r"^ ?(\d+)\. ", done.stdout, re.MULTILINE)
    assert told == [str(n) for n in range(1, len(told) + 1)]
    assert len(told) == 16
    assert "Every step was as it should be." in done.stdout
    assert gone()


def test_a_step_that_goes_wrong_ends_it_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demonstration.Demo, "_credits", lambda *_: {"balance": 11, "available": 11})
    monkeypatch.setattr("sys.argv", ["demo"])
    assert demonstration.main() == 1
    assert "the bonus is 11" in capsys.readouterr().err
    assert gone()


def test_a_taken_port_is_one_sentence(stack: Stack) -> None:
    port = stack.status().api_url.rsplit(":", 1)[1]
    done = subprocess.run(
        [ROOT / "scripts" / "demo", "--port", port], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert re.fullmatch(rf"scripts/demo: .*{port}.*\n", done.stderr)
    assert gone()
