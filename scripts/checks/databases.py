"""Databases to compare: one from the migrations, one from sql/, on a Postgres of their own."""

import itertools
import os
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from scripts.local.stack import keys, migrations, ports
from scripts.local.stack.errors import StackError
from scripts.local.stack.paths import Paths
from scripts.local.stack.postgres import Postgres
from scripts.local.stack.processes import start_time

# Functions call each other, so no order of loading has each called one before its caller.
BODIES_LATER = "set local check_function_bodies = off;\n"

LOADED_LATER = (
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedObject,
)
LISTED_LATER = (
    "\nTables, types, views, and functions that a default, constraint, policy or view needs, are loaded "
    "in the order of schema_paths in supabase/config.toml: list there what this needs, before it."
)

_servers = itertools.count()


def schema_paths(root: Path) -> list[str]:
    """[db.migrations] schema_paths of supabase/config.toml as they stand there."""
    with (root / "supabase" / "config.toml").open("rb") as file:
        listed: list[str] = tomllib.load(file)["db"]["migrations"]["schema_paths"]
    return listed


def schema_files(root: Path) -> list[Path]:
    """The files of sql/ in load order, as schema_paths lists them.

    A pattern stands for its files in the order of their names, but for those that came before.
    """
    folder = root / "supabase"
    found: dict[Path, None] = {}
    for name in schema_paths(root):
        files = sorted(folder.glob(name)) if "*" in name else [folder / name]
        found.update(dict.fromkeys(path.resolve() for path in files))
    return list(found)


def load_sql(root: Path, database_url: str) -> None:
    """Load sql/ as the role in the URL, in one transaction. Raises StackError that names the file."""
    with psycopg.connect(database_url) as connection:
        connection.execute(BODIES_LATER)
        for path in schema_files(root):
            try:
                connection.execute(path.read_bytes())
            except (psycopg.Error, OSError) as error:
                more = LISTED_LATER if isinstance(error, LOADED_LATER) else ""
                raise StackError(
                    f"{path.relative_to(root.resolve())} does not load: {error}{more}"
                ) from error
        _check_bodies(connection)


def _check_bodies(connection: psycopg.Connection) -> None:
    """Have Postgres check the bodies that it has taken unseen: write each function anew, as it is."""
    connection.execute("set local check_function_bodies = on")
    functions = connection.execute(
        """
        select p.oid::regprocedure::text, pg_get_functiondef(p.oid) from pg_proc as p
        where p.pronamespace in ('public'::regnamespace, 'credits'::regnamespace)
        """
    ).fetchall()
    for name, definition in functions:
        try:
            connection.execute(definition)
        except psycopg.Error as error:
            raise StackError(f"{name} does not load: {error}") from error


def without_tls(database_url: str) -> str:
    """The URL as the Supabase CLI has to get it for a server that has no TLS."""
    return f"{database_url}{'&' if '?' in database_url else '?'}sslmode=disable"


def diff(root: Path, source_url: str, target_url: str) -> str:
    """The SQL that takes the one database to the other; empty when `supabase db diff` sees no difference.

    It does not see grants on configuration parameters, default privileges, settings of roles, nor rows.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "diff.sql"
        done = migrations.run_cli(
            root,
            "db",
            "diff",
            "--from",
            without_tls(source_url),
            "--to",
            without_tls(target_url),
            "--output",
            str(output),
        )
        if done.returncode:
            raise StackError(f"The Supabase CLI could not compare the databases:\n{done.stdout.strip()}")
        return output.read_text().strip() if output.exists() else ""


def _sweep(root: Path) -> None:
    """Delete what runs that were killed left."""
    for folder in (root / ".stack").glob("checks-*"):
        pid = folder.name.split("-")[1]
        if pid.isdigit() and start_time(int(pid)) is None:
            paths = Paths(root, folder.name)
            Postgres(paths, keys.load_or_create(paths.file("secrets.json")), 0).stop()
            paths.remove()


@contextmanager
def postgres(root: Path) -> Iterator[Postgres]:
    """A Postgres of its own on a free port, as a new project's, gone at the end. About two seconds."""
    root = root.resolve()
    _sweep(root)
    # One process may have several at once.
    paths = Paths(root, f"checks-{os.getpid()}-{next(_servers)}")
    paths.make()
    server = Postgres(paths, keys.load_or_create(paths.file("secrets.json")), ports.ephemeral())
    try:
        server.create()
        server.start()
        server.bootstrap()
        yield server
    finally:
        server.stop()
        paths.remove()


def database_from_migrations(root: Path, server: Postgres, name: str = "from_migrations") -> str:
    """A database with every migration applied by the Supabase CLI, as `postgres`. Returns its URL."""
    server.create_database(name)
    migrations.apply(root, server.url(name))
    return server.url(name)


def database_from_sql(root: Path, server: Postgres, name: str = "from_sql") -> str:
    """A database with sql/ loaded as `postgres`. Returns its URL."""
    server.create_database(name)
    load_sql(root, server.url(name))
    return server.url(name)
