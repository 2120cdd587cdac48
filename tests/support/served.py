"""Processes that serve HTTP to a test."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from scripts.local.stack import ports
from tests.support.clock import until
from tests.support.forked import Forked
from tests.support.stack import ROOT


@dataclass(frozen=True)
class Served:
    """One process, which answers at the URL."""

    url: str
    process: "subprocess.Popen[bytes] | Forked"
    log_file: Path

    def log(self) -> str:
        """What it has written so far."""
        return self.log_file.read_text()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.terminate()

    def wait_dead(self, seconds: float = 20) -> int:
        """The exit status, once it has ended by itself."""
        return self.process.wait(seconds)


@contextmanager
def serving(
    command: Sequence[str], environment: Mapping[str, str | None], log_file: Path,
    patience: float = 20, port: int | None = None, fork: bool = False,
) -> Iterator[Served]:  # fmt: skip
    """Run a Python module that takes --port (default: one that is free) in the project's folder, then end it.

    A variable of the environment that is None is not passed on. At the end the process gets seconds of
    patience for what is under way; with none it is killed. `fork` lets it begin with its libraries imported.
    """
    port = port or ports.ephemeral()
    given = {"PATH": os.environ["PATH"], **environment}
    whole = {name: value for name, value in given.items() if value is not None}
    command = [*command, "--port", str(port)]
    process: subprocess.Popen[bytes] | Forked
    with log_file.open("wb") as log:
        if fork:
            process = Forked(command, whole, log_file)
        else:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=ROOT, stdout=log, stderr=log, env=whole
            )
    served = Served(f"http://127.0.0.1:{port}", process, log_file)
    try:
        until(lambda: answers(served.url, process), 40)
        yield served
    finally:
        try:
            if patience:
                served.terminate()
                process.wait(patience)
        finally:
            served.kill()


def answers(url: str, process: "subprocess.Popen[bytes] | Forked") -> bool:
    """Whether a process that has begun answers already; it must not have ended."""
    assert process.poll() is None, f"the process ended with status {process.returncode}"
    try:
        httpx.options(url, trust_env=False)
    except httpx.TransportError:
        return False
    return True
