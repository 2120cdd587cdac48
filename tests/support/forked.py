"""Processes forked from one that has imported what scripts/setup installed.

A function takes three quarters of a second of processor time to start, nearly all of it for importing its
libraries. Of the project such a process has nothing imported, so it begins as `python -m` does.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["uvicorn", "uvicorn.protocols.http.auto", "uvloop", "starlette.applications", "aiohttp", "httpx",
     "supabase", "stripe"]
)  # fmt: skip


class Forked:
    """A process that runs a module, with the methods of subprocess.Popen."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log_file: Path) -> None:
        """The environment is the process's whole one; output goes to the end of the log."""
        given = (list(command), dict(environment), str(log_file))
        self._process = _context.Process(target=_run, args=given, daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit status; -9 after SIGKILL. None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """See `returncode`."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(f"{self._process}", timeout or 0)
        return code

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


def _run(command: list[str], environment: dict[str, str], log_file: str) -> None:
    """What `python -m COMMAND` does in the project's folder."""
    log = os.open(log_file, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    # What pytest has put there is not what the process is given.
    installed = [path for path in sys.path if Path(path).resolve() not in (ROOT, ROOT / "functions")]
    given = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [str(ROOT), *(str(ROOT / path) for path in given), *installed]
    sys.argv[:] = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
