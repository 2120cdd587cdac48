"""Long-running processes that outlive the command which started them.

A daemon runs in a session of its own, so that Ctrl-C in a terminal does not reach it, and is known by
a pid file that also holds the process's start time: a pid alone may belong to someone else by now.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from .errors import StackError


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived. Like KeyboardInterrupt, no `except Exception` catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


_held = 0
_pending: int | None = None


def _on_signal(signum: int, _frame: FrameType | None) -> None:
    global _pending
    if _held:
        _pending = signum
    else:
        raise Interrupted(signum)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the signals that end a program into Interrupted, so that `finally` and `except` clean up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = {number: signal.signal(number, _on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put such a signal off until the block ends. Not done by masking: children inherit a mask."""
    global _held, _pending
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    if not _held and _pending is not None:
        signum, _pending = _pending, None
        raise Interrupted(signum)


def start_time(pid: int) -> str | None:
    """When the process began, as an opaque text; None when there is no such process, or only a zombie."""
    try:
        # The name in field 2 may hold spaces and brackets, so count from the last bracket:
        # state is the first field after it, the start time in clock ticks the twentieth.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
        ps = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        state, _, began = ps.stdout.strip().partition(" ")
        return began.strip() if began and not state.startswith("Z") else None
    if fields[0] in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip() if boot.exists() else ''}/{fields[19]}"


def wait_gone(pids: Sequence[int], seconds: float) -> list[int]:
    """Wait until none of the processes is left; returns those still there when the time is up."""
    deadline = time.monotonic() + seconds
    left = list(pids)
    while True:
        for pid in left:
            # Reap it if it is a child of this process; harmless if not.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        left = [pid for pid in left if start_time(pid) is not None]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def with_working_directory(folder: Path) -> list[int]:
    """Processes whose working directory is the folder. Linux only; elsewhere none is found.

    Every Postgres process works in its data directory, so this finds the backends that a killed
    postmaster left behind.
    """
    found = []
    target = os.path.realpath(folder)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((entry / "cwd").readlink()) == target:
                found.append(int(entry.name))
    return found


@dataclass(frozen=True)
class Daemon:
    """One long-running process: its name in messages, its pid file and its log."""

    name: str
    pid_file: Path
    log_file: Path
    stop_signal: signal.Signals = signal.SIGTERM

    def pid(self) -> int | None:
        """The pid when it runs, None when it does not."""
        try:
            record: dict[str, Any] = json.loads(self.pid_file.read_text())
            pid, started = int(record["pid"]), record["started"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return pid if start_time(pid) == started else None

    def spawn(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        as_user: Mapping[str, Any] | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Start it with its output going to the log. Raises StackError when it cannot be executed."""
        with uninterrupted(), self.log_file.open("ab") as log:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(env),
                    cwd=cwd,
                    start_new_session=True,
                    **(as_user or {}),
                )
            except OSError as error:
                raise StackError(
                    f"{self.name} cannot be started from {command[0]}: {error.strerror}."
                ) from error
            record = {"pid": process.pid, "started": start_time(process.pid)}
            self.pid_file.write_text(json.dumps(record))
        return process

    def stop(self, seconds: float = 15) -> bool:
        """Stop it, by force when it does not go in time. Returns whether it was running."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self.stop_signal)
            if wait_gone([pid], seconds):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                wait_gone([pid], 10)
        self.pid_file.unlink(missing_ok=True)
        return pid is not None

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log, for an error message."""
        try:
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""
