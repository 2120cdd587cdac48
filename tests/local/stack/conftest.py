"""A small checkout of its own, for tests that break the stack."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from scripts.local.stack import Stack, Status, ports
from scripts.local.stack.processes import start_time, with_working_directory
from tests.conftest import ROOT


@dataclass
class Checkout:
    """A copy of the scripts in a folder that only its owner may enter, without migrations."""

    root: Path
    port: int
    name: str = "small"
    umask: int = -1  # as it is

    @property
    def stack(self) -> Stack:
        return Stack(self.root, self.name, self.port)

    def run(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """scripts/stack with arguments; output is captured."""
        return subprocess.run(
            [str(self.root / "scripts" / "stack"), *arguments, "--name", self.name],
            capture_output=True, text=True, check=check, timeout=120, stdin=subprocess.DEVNULL,
            umask=self.umask,
        )  # fmt: skip

    def start(self) -> "subprocess.CompletedProcess[str]":
        return self.run("start", "--port", str(self.port))

    def pid(self, part: str) -> int:
        """The pid of a part that runs."""
        pid = self.stack._daemons()[part].pid()
        assert pid is not None, f"{part} does not run"
        return pid

    def processes(self) -> set[int]:
        """Every process of the stack: the daemons, what shares their sessions, Postgres's backends."""
        found = set(with_working_directory(self.stack.paths.data))
        for daemon in self.stack._daemons().values():
            pid = daemon.pid()
            if pid is not None:
                found.add(pid)
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if session in found or str(self.root).encode() in command:
                found.add(int(entry.name))
        return {pid for pid in found if pid != os.getpid() and start_time(pid) is not None}

    def connect(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.status().db_url, autocommit=True)

    def status(self) -> Status:
        return self.stack.status()

    def rest(self, path: str) -> httpx.Response:
        """GET below /rest/v1 with the publishable key."""
        status = self.status()
        return httpx.get(
            f"{status.api_url}/rest/v1/{path}", headers={"apikey": status.publishable_key}, timeout=10
        )


def make_checkout(root: Path, *, installed: bool = True) -> None:
    """Copy what `scripts/stack` needs; what scripts/setup installs is linked, or left out."""
    root.mkdir(mode=0o700, exist_ok=True)
    shutil.copytree(
        ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("*.pyc.*"), dirs_exist_ok=True
    )
    for name in ("requirements.lock", "package-lock.json", "package.json", ".npmrc"):
        shutil.copy(ROOT / name, root / name)
    if installed:
        for name in (".venv", "node_modules"):
            (root / name).symlink_to(ROOT / name)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A checkout whose stack is not running, where paths and new files are as awkward as they get."""
    root = tmp_path / "a checkout, d'été"
    make_checkout(root)
    made = Checkout(root, ports.free_pair(), umask=0o077)
    yield made
    made.stack.stop(delete=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout whose stack runs, shared by the tests of a module. Each leaves it running."""
    root = tmp_path_factory.mktemp("running") / "checkout"
    make_checkout(root)
    made = Checkout(root, ports.free_pair())
    made.start()
    yield made
    made.stack.stop(delete=True)
