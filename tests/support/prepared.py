"""A cluster that is made once, migrated and seeded, for the tests' stacks to start from.

It lies in .stack/prepared-KEY, and nothing ever runs on it: a stack gets a copy. The key is a digest of all
that it is made from, so that a change makes another one; what an interrupted attempt left is made anew.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from scripts.local.stack import Stack, keys, migrations, ports
from scripts.local.stack.paths import Paths
from scripts.local.stack.postgres import Postgres, binaries, tool
from scripts.local.stack.stack import DEFAULT_PORT, State
from tests.support import clock

# Databases that tests copy: with the migrations and no seed; with the seed, a flat price and a clock, too.
MIGRATED, CLOCKED = "tests_migrated", "tests_clocked"

SOURCES = (
    "scripts/local/stack/**/*.py", "scripts/local/stack/**/*.sql", "supabase/migrations/*.sql",
    "supabase/seed.sql", "tests/support/clock.py", "tests/support/prepared.py", "package-lock.json",
    "requirements.lock",
)  # fmt: skip

PRICES = """
insert into public.pricing_tiers (operation, provider, model, credits_per_unit)
values ('one', 'test', 'test', 1), ('fraction', 'test', 'test', 0.3)
"""


def key(root: Path) -> str:
    """What tells one such cluster from another: the names and contents of its sources, and the Postgres."""
    version = subprocess.run([tool("postgres"), "--version"], capture_output=True, text=True, check=True)
    digest = hashlib.sha256(f"{os.geteuid()} {binaries()} {version.stdout}".encode())
    for path in sorted({path for pattern in SOURCES for path in root.glob(pattern)}):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def start(stack: Stack, *, ticker: bool = True, providers: bool = False) -> None:
    """Start a new stack with the migrations and the seed in it, as Stack.start() does, in half the time."""
    with _lock(stack.root):
        made = _made(stack.root)
        stack.paths.make()
        shutil.copy2(made.file("secrets.json"), stack.paths.file("secrets.json"))
        # As root they belong to Postgres's user, whom shutil.copytree would not keep.
        subprocess.run(["cp", "-Rp", str(made.data), str(stack.paths.data)], check=True)
        stack.paths.file("cluster.ready").touch()
    stack._save(State(DEFAULT_PORT, seeded=True))
    stack.start(ticker=ticker, providers=providers)


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One process at a time makes or copies it."""
    folder = root / ".stack"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "prepared.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _made(root: Path) -> Paths:
    """The cluster, made now unless it is there. Those made from something else are deleted."""
    paths = Paths(root, f"prepared-{key(root)}")
    for folder in (root / ".stack").glob("prepared-*"):
        if folder.is_dir() and not (folder == paths.state and paths.file("made").exists()):
            _postgres(Paths(root, folder.name)).stop()  # killed while it made it
            Paths(root, folder.name).remove()
    if not paths.file("made").exists():
        paths.make()
        server = _postgres(paths)
        try:
            server.create()
            server.start()
            _fill(root, server)
        finally:
            server.stop()
        paths.file("made").touch()
    return paths


def _postgres(paths: Paths) -> Postgres:
    return Postgres(paths, keys.load_or_create(paths.file("secrets.json")), ports.ephemeral())


def _fill(root: Path, server: Postgres) -> None:
    """What Stack.start() does with a new cluster, and the databases to copy."""
    seed = root / "supabase" / "seed.sql"
    server.bootstrap()
    migrations.apply(root, server.url())
    for name in (MIGRATED, CLOCKED):
        server.create_database(name, "postgres")
    for database in ("postgres", CLOCKED):
        server.run_file(seed, database)
    with psycopg.connect(server.url(CLOCKED), autocommit=True) as connection:
        clock.install(connection)
        connection.execute(PRICES)
        connection.execute("update credits.billing_settings set signup_bonus = 0")
    with server.connect() as admin:
        # A copy need not bring along WAL that is over.
        admin.execute("alter system set wal_recycle = off")
        admin.execute("select pg_reload_conf()")
        admin.execute("checkpoint")
        admin.execute("alter system reset wal_recycle")
