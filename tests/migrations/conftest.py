"""A Postgres of its own: migrations change roles, which belong to the whole cluster."""

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.checks import databases, make_migration
from scripts.local.stack.postgres import Postgres, tool
from tests.conftest import ROOT


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


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with databases.postgres(ROOT) as postgres:
        yield Server(postgres)


@pytest.fixture(scope="session")
def migrated(server: Server) -> str:
    """The URL of a database made from the migrations, for tests that only look."""
    return databases.database_from_migrations(ROOT, server.postgres)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A copy of scripts, sql/ and supabase/ that a test may change, with what scripts/setup installs."""
    root = tmp_path / "project"
    root.mkdir()
    for folder in ("scripts", "sql", "supabase"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("*.pyc.*", ".temp"))
    for name in (
        "pyproject.toml",
        ".squawk.toml",
        "requirements.lock",
        "package-lock.json",
        "package.json",
        ".npmrc",
    ):
        shutil.copy(ROOT / name, root / name)
    for name in (".venv", "node_modules"):
        (root / name).symlink_to(ROOT / name)
    yield root
    with contextlib.suppress(FileNotFoundError):
        left = list((root / ".stack").glob("checks-*"))
        assert not left, "a server was left behind"


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def script(project: Path) -> Run:
    """Runs scripts/migration or scripts/lint of the copy."""

    def run(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(project / "scripts" / name), *arguments],
            capture_output=True, text=True, check=False, timeout=180, stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(project.parent)},
        )  # fmt: skip

    return run


def migrations_of(root: Path) -> list[str]:
    """The names of the migration files."""
    return [path.name for path in make_migration.migration_files(root)]
