"""How scripts/test runs the suite in several processes: what stays together, and the slowest first.

A plug-in of pytest-xdist, which tests/conftest.py loads when that is installed. Plain pytest runs all tests
in one process, in the order of the files.
"""

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager, WorkerController

from tests.support.stack import ROOT

# A file runs in one process, for the sake of its fixtures. So does each of these folders: their tests share
# processes that take seconds to start, or a name or a port of which the checkout has one.
TOGETHER = (
    "tests/crash",
    "tests/dashboard",
    "tests/payments/live",
    "tests/local/providers",
    "tests/local/stripe",
)
# Seconds, for who has not run the suite yet: afterwards it is known how long each took the last time.
SLOW = {
    "tests/payments/live": 150.0,
    "tests/local/stack/test_lifecycle.py": 120.0,
    "tests/dashboard": 110.0,
    "tests/benchmark/test_bench.py": 90.0,
    "tests/lint/test_lint.py": 50.0,
    "tests/functions/test_reconcile.py": 40.0,
    "tests/migrations/test_script.py": 35.0,
    "tests/generation/http/test_process.py": 30.0,
    "tests/generation/http/test_outcomes.py": 30.0,
    "tests/upgrade/test_upgrade.py": 30.0,
    "tests/ledger/test_maintenance.py": 25.0,
    "tests/generation/http/test_takeover.py": 25.0,
    "tests/ledger/test_model.py": 25.0,
    "tests/crash": 20.0,
    "tests/demo/test_demo.py": 20.0,
    "tests/migrations/test_apply.py": 20.0,
    "tests/concurrency/test_mixed_load.py": 20.0,
    "tests/security/test_names.py": 20.0,
    "tests/docs/test_examples.py": 20.0,
    "tests/payments/test_allotments.py": 17.0,
}
CACHE = "supabase-credits/seconds"


def unit(nodeid: str) -> str:
    """The file, or the folder, whose tests run in one process and one after the other."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)


class SlowestFirst(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a process that has nothing to do the unit that takes longest."""

    def __init__(self, config: pytest.Config, log: Producer | None, seconds: Mapping[str, float]) -> None:
        super().__init__(config, log)
        self._seconds = seconds

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        def seconds(scope: str) -> float:
            # Of a file that is new nobody knows; a test takes a third of a second.
            return self._seconds.get(scope, len(self.workqueue[scope]) / 3)

        self.workqueue.move_to_end(max(self.workqueue, key=seconds), last=False)
        super()._assign_work_unit(node)


class Timing:
    """Notes how long each unit takes, for the next run."""

    def __init__(self, config: pytest.Config) -> None:
        self._cache = config.cache
        self._took: dict[str, float] = {}
        assert self._cache
        self.known: dict[str, float] = SLOW | self._cache.get(CACHE, {})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the set-up, the call or the tear-down of a test."""
        scope = unit(report.nodeid)
        self._took[scope] = self._took.get(scope, 0) + report.duration

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Keep it, but for a run of a part of the tests, which says nothing of whole files."""
        config = session.config
        if self._cache and config.args_source is not config.ArgsSource.ARGS and not config.option.keyword:
            self._cache.set(CACHE, self.known | {scope: round(took, 1) for scope, took in self._took.items()})


# The process ids of those that run tests for this one.
WORKERS: list[int] = []


def pytest_configure(config: pytest.Config) -> None:
    """Let SIGTERM and Ctrl-C end every process with its stacks deleted; note how long the tests take."""
    if hasattr(config, "workerinput"):

        def end(_signum: int, _frame: FrameType | None) -> None:
            # The one that hands the tests out sends another soon, which shall not stop the clearing up.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        return
    if not config.option.tx:
        return
    config.pluginmanager.register(Timing(config), "timing")
    NodeManager.EXIT_TIMEOUT = 30

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)  # a second one ends it at once
        for pid in WORKERS:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        # xdist would give them fifteen seconds, of which a busy machine needs more.
        deadline = time.monotonic() + 90
        while _stacks() and time.monotonic() < deadline:
            time.sleep(0.1)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def _stacks() -> list[Path]:
    """The folders of stacks that processes of this run have not deleted yet."""
    pids = {str(pid) for pid in WORKERS}
    folders = [folder for folder in (ROOT / ".stack").glob("*-*") if folder.is_dir()]
    return [folder for folder in folders if pids & set(folder.name.split("-"))]


def pytest_xdist_auto_num_workers() -> int:
    """Two processes for each processor, since tests wait for half of their time. For a stack that is not
    ours, none: tests that set something for all of it would be in each other's way.
    """
    return 0 if os.environ.get("DB_URL") else 2 * len(os.sched_getaffinity(0))


def pytest_testnodeready(node: WorkerController) -> None:
    """A process is ready to run tests."""
    WORKERS.append(node.gateway._rinfo().pid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SlowestFirst:
    """Whole files, the slowest first."""
    timing = config.pluginmanager.get_plugin("timing")
    assert isinstance(timing, Timing)
    return SlowestFirst(config, log, timing.known)
