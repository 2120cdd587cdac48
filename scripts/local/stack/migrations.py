"""Migrations, applied by the Supabase CLI: the same program that deploys them to a hosted project."""

import os
import platform
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psycopg

from .errors import StackError


def cli(root: Path) -> str:
    """The CLI's own binary. Not its Node launcher, whose child would outlive it when killed."""
    system = platform.system().lower()
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(
        platform.machine().lower(), platform.machine()
    )
    for suffix in ("", "-musl"):
        found = root / "node_modules" / "@supabase" / f"cli-{system}-{machine}{suffix}" / "bin" / "supabase"
        if found.exists():
            return str(found)
    raise StackError(
        f"There is no Supabase CLI for {system}-{machine} in node_modules; run scripts/setup again."
    )


def cli_environment(root: Path) -> Mapping[str, str]:
    """An environment in which the CLI sends no telemetry and keeps its files below .stack/."""
    home = root / ".stack" / "cli"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(home),
        "SUPABASE_HOME": str(home),
        "SUPABASE_TELEMETRY_DISABLED": "1",
        "DO_NOT_TRACK": "1",
        "SUPABASE_NO_UPDATE_NOTIFIER": "1",
        "SUPABASE_NO_KEYRING": "1",
        "NO_COLOR": "1",
    }


def run_cli(root: Path, *arguments: str, seconds: float = 300) -> "subprocess.CompletedProcess[str]":
    """Run the CLI in the project; output is captured, stderr joined to stdout. It never asks anything."""
    process = subprocess.Popen(
        [cli(root), *arguments, "--workdir", str(root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=cli_environment(root),
        cwd=root,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except BaseException:
        # Interrupted or too slow: nothing of it may stay behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(arguments, process.returncode, output, "")


def versions(root: Path) -> set[str]:
    """The versions of the migration files."""
    return {path.name.split("_")[0] for path in (root / "supabase" / "migrations").glob("[0-9]*_*.sql")}


def pending(root: Path, database_url: str) -> list[str]:
    """The versions of the migration files that the database has not had yet."""
    wanted = versions(root)
    if not wanted:
        return []
    with psycopg.connect(database_url, connect_timeout=5) as connection:
        known = connection.execute(
            "select to_regclass('supabase_migrations.schema_migrations') is not null"
        ).fetchone()
        if known and known[0]:
            rows = connection.execute("select version from supabase_migrations.schema_migrations").fetchall()
            wanted -= {row[0] for row in rows}
    return sorted(wanted)


def apply(root: Path, database_url: str) -> list[str]:
    """Apply what is pending, as the role in the URL. Returns the versions applied.

    Raises StackError with the CLI's message when one fails; the CLI runs each in a transaction.
    """
    applied = pending(root, database_url)
    if applied:
        remote = f"{database_url}{'&' if '?' in database_url else '?'}sslmode=disable"
        done = run_cli(root, "migration", "up", "--yes", f"--remote={remote}")
        if done.returncode:
            raise StackError(f"The Supabase CLI could not apply the migrations:\n{done.stdout.strip()}")
        left = pending(root, database_url)
        if left:
            raise StackError(
                f"The Supabase CLI left migrations unapplied ({', '.join(left)}):\n{done.stdout.strip()}"
            )
    return applied
