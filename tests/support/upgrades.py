"""A database that a release made and its users filled, brought to what comes after it, and back."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psycopg

from scripts.checks import releases
from scripts.local.stack import StackError, migrations
from tests.support.projects import Server
from tests.support.stack import NEEDED, ROOT

FOLDERS = ("scripts", "sql", "supabase", "functions", "tests")
# By table: each row as JSON, columns in order of their names.
Rows = dict[str, list[dict[str, Any]]]

TABLES = """
    select format('%I.%I', n.nspname, c.relname)
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    where n.nspname in ('public', 'credits') and c.relkind = 'r'
    order by 1
"""


def link(root: Path) -> None:
    """Give a checkout what scripts/setup installs."""
    for name in (".venv", "node_modules"):
        (root / name).symlink_to(ROOT / name)


def copy(root: Path) -> None:
    """Copy this project to a folder, as far as git keeps it."""
    left = shutil.ignore_patterns("__pycache__", ".temp", ".hypothesis")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, root / name, ignore=left)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, root / path.name)


def check_out(root: Path, tag: str, folder: Path) -> Path:
    """The files of a release in a folder of their own, without touching the repository's."""
    folder.mkdir()
    releases.git(root, "archive", f"--output={folder}/release.tar", f"refs/tags/{tag}")
    shutil.unpack_archive(folder / "release.tar", folder, filter="data")
    (folder / "release.tar").unlink()
    link(folder)
    return folder


def _without_this_one() -> dict[str, str]:
    """The environment without what would bring this checkout's modules or stack into another one."""
    settings = {name: value for name, value in os.environ.items() if name not in (*NEEDED, "PYTHONPATH")}
    return {name: value for name, value in settings.items() if not name.startswith("PYTEST_")}


class Life:
    """tests/upgrade/life.py of a checkout, in a process with that checkout's modules."""

    def __init__(self, root: Path) -> None:
        self._name = root.name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.upgrade.life"], cwd=root, env=_without_this_one(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, step: str, url: str, *begun: Any) -> dict[str, Any]:
        """What a step gave, or how it failed."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([step, url, *begun]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{step} of {self._name}: the process ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def live(self, step: str, url: str) -> Any:
        """What a step gave, which did not fail."""
        answer = self.tell(step, url)
        assert "gave" in answer, f"{step} of {self._name}: {answer['failed'][-3000:]}"
        return answer["gave"]


def rows(url: str) -> Rows:
    """All rows of the ledger's tables."""
    with psycopg.connect(url) as connection:
        connection.execute("set timezone = 'UTC'")
        names = [name for (name,) in connection.execute(TABLES)]
        return {
            name: [row for (row,) in connection.execute(f"select to_jsonb(t) from {name} as t")]
            for name in names
        }


def lost(before: Rows, after: Rows, meant: Mapping[str, str]) -> list[str]:
    """What users had and have no more, but for tables and TABLE.COLUMNs that are meant to change."""
    findings = []
    for table, had in before.items():
        if table in meant or not had:
            continue
        if table not in after:
            findings.append(f"{table} is gone.")
            continue
        has = after[table]
        gone = had[0].keys() - (has[0].keys() if has else had[0].keys())
        findings += [
            f"{table}.{column} is gone." for column in sorted(gone) if f"{table}.{column}" not in meant
        ]
        columns = [name for name in had[0] if name not in gone and f"{table}.{name}" not in meant]
        missing = _count(had, columns) - _count(has, columns)
        if missing:
            findings.append(
                f"{table}: {missing.total()} rows are not as they were, such as {next(iter(missing))}"
            )
    return findings


def _count(found: list[dict[str, Any]], columns: Sequence[str]) -> "Counter[str]":
    return Counter(json.dumps({name: row.get(name) for name in columns}, sort_keys=True) for row in found)


def upgrade(server: Server, old: Path, new: Path, meant: Mapping[str, str]) -> list[str]:
    """Bring what users of the one have to the other, live on with either, and go back. What went wrong."""
    with Life(old) as of_old, Life(new) as of_new:
        return _upgrade(server, old, new, meant, of_old, of_new)


def _upgrade(
    server: Server, old: Path, new: Path, meant: Mapping[str, str], of_old: Life, of_new: Life
) -> list[str]:
    home = server.new()

    def twin() -> str:
        name = f"{home}_{len(twins)}"
        server.postgres.create_database(name, home)
        twins.append(name)
        return name

    twins: list[str] = []
    migrations.apply(old, server.url(home))
    begun = of_old.live("begin", server.url(home))
    findings = [f"Before: {line}" for line in of_old.live("check", server.url(twin()))]
    before, schema = rows(server.url(home)), server.dump(home)

    applied = migrations.apply(new, server.url(home))
    assert applied, "there is no migration that the release does not have"
    findings += [f"Up: {line}" for line in lost(before, rows(server.url(home)), meant)]
    after_new, after_old = twin(), twin()
    # The functions and clients of the old release, which are still there when the database is new already.
    for name, root, life in ((after_old, old, of_old), (after_new, new, of_new)):
        answer = life.tell("go_on", server.url(name), begun)
        if "failed" in answer:
            findings.append(f"Gone on by {root.name}: {answer['failed'][-2000:]}")
    for name, root, life in ((after_old, old, of_old), (after_old, new, of_new), (after_new, new, of_new)):
        found = life.live("check", server.url(name))
        findings += [f"Gone on, checked by {root.name}: {line}" for line in found]

    for name in (home, after_old):
        for version in reversed(applied):
            (path,) = (new / "supabase" / "rollbacks").glob(f"{version}_*.sql")
            done = server.psql(name, f"--file={path}")
            assert done.returncode == 0, done.stderr
        assert migrations.pending(new, server.url(name)) == applied
        back = server.dump(name)
        if back != schema:
            changed = sorted({*back.splitlines()} ^ {*schema.splitlines()})
            findings.append(f"Back: the schema is not what it was: {changed[:5]}")
    findings += [f"Back: {line}" for line in lost(before, rows(server.url(home)), {})]
    findings += [f"Back: {line}" for line in of_old.live("check", server.url(after_old))]
    try:
        migrations.apply(new, server.url(home))
    except StackError as error:
        findings.append(f"Up again: {error}")
    return findings


def run_clients(old: Path, new: Path, tests: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """The old release's tests of what its clients and functions do, on the new migrations."""
    for folder in releases.FOLDERS:
        shutil.rmtree(old / folder)
        shutil.copytree(new / folder, old / folder)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short", *tests],
        cwd=old, env=_without_this_one(), capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def client_tests(old: Path) -> list[str]:
    """Which tests of the old release say what its clients and functions rely on."""
    lines = (old / "tests" / "upgrade" / "clients.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
