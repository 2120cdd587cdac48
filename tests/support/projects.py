"""Copies of the project that a test may change or break, and servers for their databases."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from scripts.checks import make_migration
from scripts.local.stack import Stack, Status
from scripts.local.stack.postgres import Postgres, tool
from scripts.local.stack.processes import start_time, with_working_directory
from tests.support.stack import ROOT


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


def git(root: Path, *arguments: str) -> str:
    """Git in a repository of a test's own, with nothing of the user's; what it prints."""
    settings = ("user.name=n", "user.email=n@example.com", "init.defaultBranch=main", "commit.gpgSign=false")
    done = subprocess.run(
        ["git", *(word for setting in settings for word in ("-c", setting)), *arguments],
        cwd=root, capture_output=True, text=True, check=False,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(root: Path, *tags: str) -> None:
    """Commit all that is there, and tag it."""
    if not (root / ".git").exists():
        git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message=m")
    for tag in tags:
        git(root, "tag", tag)


def make_checkout(root: Path, *, installed: bool = True) -> None:
    """Copy what `scripts/stack` needs; what scripts/setup installs is linked, or left out."""
    root.mkdir(mode=0o700, exist_ok=True)
    shutil.copytree(
        ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("*.pyc.*"), dirs_exist_ok=True
    )
    for name in (
        "requirements.lock",
        "requirements-browser.lock",
        "package-lock.json",
        "package.json",
        ".npmrc",
    ):
        shutil.copy(ROOT / name, root / name)
    if installed:
        for name in (".venv", "node_modules"):
            (root / name).symlink_to(ROOT / name)


@dataclass(frozen=True)
class Server:
    """The server, and how to make databases on it."""

    postgres: Postgres

    def new(self) -> str:
        """A database as a new project has it. Returns its name."""
        name = f"db_{uuid.uuid4().hex[:12]}"
        self.postgres.create_database(name)
        return name

    def url(self, name: str, role: str = "postgres") -> str:
        return self.postgres.url(name, role)

    def dump(self, name: str) -> str:
        """Everything but rows that pg_dump knows, and the cluster's roles with their settings."""
        done = subprocess.run(
            [
                tool("pg_dump"), "--schema-only", "--exclude-schema=supabase_migrations",
                self.url(name, "supabase_admin"),
            ],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        with self.postgres.connect(name) as connection:
            roles = connection.execute(
                "select r.rolname, s.setconfig from pg_roles as r "
                "left join pg_db_role_setting as s on r.oid = s.setrole order by 1, 2"
            ).fetchall()
        # Since 17.6 each dump has a random word in these lines.
        lines = [
            line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
        ]
        return "\n".join([*lines, *map(str, roles)])

    def psql(self, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run psql as `postgres`; it stops at the first error."""
        return subprocess.run(
            [tool("psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--dbname={self.url(name)}", *arguments],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip


Run = Callable[..., "subprocess.CompletedProcess[str]"]


def migrations_of(root: Path) -> list[str]:
    """The names of the migration files."""
    return [path.name for path in make_migration.migration_files(root)]
