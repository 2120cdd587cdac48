"""The benchmark's own stack: its databases, pgbench on them, and what a run costs the server."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from scripts.local.stack import Stack

HERE = Path(__file__).parent
MAIN = "postgres"
"""The database that PostgREST serves."""
SEEDED = "bench_seeded"
"""A database with migrations and seed, to copy."""
WARM_UP = 2
"""Seconds of each pgbench run that do not count; 1 in runs of a second or two."""
PROGRESS = re.compile(r"progress: ([0-9.]+) s, ([0-9.]+) tps, lat ([0-9.]+) ms")


@dataclass(frozen=True)
class Sample:
    """One side of one round.

    value: in the measure's unit. cpu_us: CPU time of the Postgres backends for one transaction, in
    microseconds; None where /proc does not tell. wal_bytes: WAL for one transaction.
    """

    value: float
    cpu_us: float | None = None
    wal_bytes: float | None = None


class Server:
    """A running stack, and the databases that measures ask for."""

    def __init__(self, stack: Stack, rate: int | None = None) -> None:
        """`rate`: at most so many transactions a second of pgbench; None is as many as there can be."""
        self.stack, self._rate = stack, rate
        status = stack.status()
        self.api_url, self.postgrest_url = status.api_url, status.postgrest_url
        self.jwt_secret, self.publishable_key = status.jwt_secret, status.publishable_key
        with self.connect() as admin:
            row = admin.execute("select pg_read_file('postmaster.pid')").fetchone()
        assert row
        self._postmaster = int(str(row[0]).split()[0])

    # -- databases -----------------------------------------------------------------------------

    def connect(self, database: str = MAIN) -> "psycopg.Connection[tuple[object, ...]]":
        """An autocommit connection as the superuser."""
        return psycopg.connect(self.stack.database_url(database, "supabase_admin"), autocommit=True)

    def create(self, database: str) -> None:
        """A database of its own with migrations and seed applied: once, and then copied."""
        with self.connect() as admin:
            if not admin.execute("select 1 from pg_database where datname = %s", (SEEDED,)).fetchone():
                url = self.stack.create_database(SEEDED)
                self.stack.apply_migrations(url)
                with psycopg.connect(url) as connection:
                    connection.execute((self.stack.root / "supabase" / "seed.sql").read_bytes())
        self.stack.create_database(database, template=SEEDED)

    def run_sql(self, database: str, name: str, role: str = "supabase_admin", **variables: int) -> None:
        """Run sql/NAME.sql in one transaction, psql variables replaced."""
        command = [
            self.stack.pg_tool("psql"),
            "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1",
            "--output=/dev/null", f"--file={HERE / 'sql' / name}.sql",
            f"--dbname={self.stack.database_url(database, role)}",
            *(f"--set={key}={value}" for key, value in variables.items()),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    def appended_bytes(self, database: str) -> int:
        """Bytes of all tables of the ledger with their indexes, but for those whose rows are only rewritten
        in place.
        """
        with self.connect(database) as admin:
            row = admin.execute(
                "select sum(pg_total_relation_size(c.oid))::bigint from pg_class as c "
                "where c.relkind = 'r' "
                "and c.relnamespace in ('public'::regnamespace, 'credits'::regnamespace) "
                "and c.relname not in ('credit_accounts', 'credit_grants')"
            ).fetchone()
        assert row and isinstance(row[0], int)
        return row[0]

    def settle_down(self, database: str) -> None:
        """Statistics, visibility map and a checkpoint, so that none of it falls into a measurement."""
        with self.connect(database) as admin:
            admin.execute("vacuum analyze")
            admin.execute("checkpoint")

    # -- one run -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def cost(self) -> Iterator["Cost"]:
        """What the backends use meanwhile: CPU time and WAL."""
        spent = Cost()
        with self.connect() as admin:
            before = self._used(admin)
            yield spent
            spent.add(before, self._used(admin))

    def _used(self, admin: "psycopg.Connection[tuple[object, ...]]") -> tuple[float | None, int]:
        """CPU seconds and bytes of WAL so far."""
        return self._cpu(admin), self._wal(admin)

    @staticmethod
    def _wal(admin: "psycopg.Connection[tuple[object, ...]]") -> int:
        row = admin.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
        assert row and isinstance(row[0], int)
        return row[0]

    def _cpu(self, admin: "psycopg.Connection[tuple[object, ...]]") -> float | None:
        """CPU seconds of all backends so far: of the postmaster's children, and of those that it has
        reaped.
        """
        others = admin.execute(
            "select pid from pg_stat_activity "
            "where backend_type not in ('client backend', 'autovacuum worker') "
            "or pid = pg_backend_pid()"
        ).fetchall()
        ignored = {pid for (pid,) in others}
        try:
            while True:
                reaped = self._reaped()
                total = (
                    sum(_nanoseconds(pid) for pid in _children(self._postmaster) if pid not in ignored) / 1e9
                )
                if self._reaped() == reaped:
                    return reaped + total
        except (OSError, ValueError, IndexError):
            return None

    def _reaped(self) -> float:
        """CPU seconds of the postmaster's waited-for children: cutime and cstime, in clock ticks."""
        fields = _stat(self._postmaster)
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def pgbench(
        self, database: str, script: str, *, clients: int, seconds: float, accounts: int,
        role: str = "authenticated",
    ) -> "PgbenchRun":  # fmt: skip
        """Run pgbench/SCRIPT.sql as the role for so many seconds. Raises when a transaction failed.

        The first seconds are left out: in them each connection compiles the functions and plans their
        statements, which connections that live as long as PostgREST's do once.
        """
        counted = max(1, round(seconds))
        warm_up = WARM_UP if counted > 2 else 1
        command = [
            self.stack.pg_tool("pgbench"), "--no-vacuum", f"--client={clients}", f"--jobs={min(clients, 2)}",
            f"--time={warm_up + counted + 1}", "--progress=1", f"--define=accounts={accounts}",
            f"--file={HERE / 'pgbench' / script}.sql",
            *([f"--rate={self._rate}"] if self._rate else []), self.stack.database_url(database),
        ]  # fmt: skip
        # PostgREST, too, logs in as one role and acts as another. No timeout may end a run on a slow machine.
        environment = {**os.environ, "PGOPTIONS": f"-c role={role} -c statement_timeout=0"}
        cost, lines, said = Cost(), [], ""
        with (
            self.connect() as admin,
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            assert process.stderr and process.stdout
            before: tuple[float | None, int] = (None, 0)
            for line in process.stderr:
                progress = PROGRESS.match(line)
                if not progress:
                    said += line
                    continue
                lines.append(tuple(float(text) for text in progress.groups()))
                if len(lines) == warm_up:
                    before = self._used(admin)
                elif len(lines) == warm_up + counted:
                    cost.add(before, self._used(admin))
            output = process.stdout.read()
        failed = re.search(r"failed transactions: ([0-9]+)", output)
        lines = lines[warm_up : warm_up + counted]
        # Each line: seconds since the start, transactions per second, milliseconds per transaction, failures.
        tps = sum(line[1] for line in lines) / max(1, len(lines))
        if process.returncode or not tps or (failed and int(failed[1])):
            raise RuntimeError(f"pgbench {script} failed:\n{output}{said}")
        transactions = tps * counted
        return PgbenchRun(
            tps=tps,
            latency_ms=sum(line[1] * line[2] for line in lines) / sum(line[1] for line in lines),
            cpu_us=cost.cpu_seconds * 1e6 / transactions if cost.cpu_seconds is not None else None,
            wal_bytes=cost.wal_bytes / transactions,
        )


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from its third field on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _children(parent: int) -> list[int]:
    """Its child processes, those that have ended and are not reaped included."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(_stat(int(entry.name))[1]) == parent:
                found.append(int(entry.name))
    return found


def _nanoseconds(pid: int) -> int:
    """CPU time of a process; 0 when it has just gone, which _reaped() then tells."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0


@dataclass
class Cost:
    """What was used between two moments; empty until the second."""

    cpu_seconds: float | None = None
    wal_bytes: float = 0

    def add(self, before: tuple[float | None, int], after: tuple[float | None, int]) -> None:
        """Note the difference of two Server._used()."""
        if before[0] is not None and after[0] is not None:
            self.cpu_seconds = after[0] - before[0]
        self.wal_bytes = after[1] - before[1]


@dataclass(frozen=True)
class PgbenchRun:
    """What pgbench said, and what the server spent on each transaction."""

    tps: float
    latency_ms: float
    cpu_us: float | None
    wal_bytes: float
