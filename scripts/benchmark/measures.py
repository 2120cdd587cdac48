"""What is compared with what."""

import json
import subprocess
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import urlsplit

import jwt
import psycopg

from .runner import Measure, Options, Result, progress
from .server import MAIN, Sample, Server

CLIENTS = 16
HTTP_CONNECTIONS = 32


def users_of_main(server: Server, options: Options) -> int:
    """Fill the database that PostgREST serves, once: users with a billion credits each, and the peers."""
    accounts = options.size(10_000, 20)
    with server.connect() as admin:
        done = admin.execute("select to_regnamespace('peer') is not null").fetchone()
    if not (done and done[0]):
        progress(f"{accounts:,} users sign up and get their credits ...")
        server.run_sql(MAIN, "peer", role="postgres")
        server.run_sql(MAIN, "accounts", role="postgres", accounts=accounts)
        settle_all(server, MAIN)
        server.settle_down(MAIN)
    return accounts


def users_tokens(server: Server, users: int) -> tuple[list[str], list[str]]:
    """The ids of the first users, and an access token for each."""
    with server.connect() as admin:
        rows = admin.execute(
            "select n, md5('user ' || n)::uuid::text from generate_series(1, %s) as n", (users,)
        ).fetchall()
    ids = [str(row[1]) for row in rows]
    now = int(time.time())
    claims = {"role": "authenticated", "aud": "authenticated", "exp": now + 24 * 3600, "iat": now}
    tokens = [jwt.encode({"sub": user, **claims}, server.jwt_secret, algorithm="HS256") for user in ids]
    return ids, tokens


class PgbenchPair(Measure):
    """Two pgbench scripts on the main database, 16 clients."""

    goal: ClassVar[float | None] = 0.88
    peer = "bare minimum"
    script: ClassVar[str] = "consume"

    def prepare(self) -> None:
        """See Measure."""
        self.accounts = self._accounts()
        self.server.settle_down(MAIN)
        # Once over the accounts, so that the page images which follow a checkpoint are written.
        self.run_peer()
        self.run_ours()

    def _accounts(self) -> int:
        return users_of_main(self.server, self.options)

    def _run(self, script: str) -> Sample:
        run = self.server.pgbench(
            MAIN, script, clients=CLIENTS, seconds=self.options.seconds, accounts=self.accounts
        )
        return Sample(run.tps, run.cpu_us, run.wal_bytes)

    def run_ours(self) -> Sample:
        """See Measure."""
        return self._run(self.script)

    def run_peer(self) -> Sample:
        """See Measure."""
        return self._run(f"{self.script}_peer")

    def finish(self) -> None:
        """See Measure."""
        verify(self.server, MAIN)


def verify(server: Server, database: str) -> None:
    """A fast ledger that is wrong is worth nothing."""
    with server.connect(database) as admin:
        broken = admin.execute("select * from public.verify_ledger() limit 3").fetchall()
    if broken:
        raise RuntimeError(f"verify_ledger found: {broken}")


class Consume(PgbenchPair):
    """The plain spend."""

    name = "consume"
    title = "consume_credits, 10,000 accounts, 16 clients"


class ConsumeWithKey(PgbenchPair):
    """A spend with a key that is new each time."""

    name = "consume_key"
    title = "the same with an idempotency key"
    peer = "bare minimum, unique index on the key"
    goal = 0.80
    cpu_goal = 1.30
    script = "consume_key"


class HotAccount(PgbenchPair):
    """Sixteen clients spend from one account."""

    name = "hot"
    title = "one hot account, 16 clients"
    peer = "bare minimum, one row"
    goal = 0.85

    def _accounts(self) -> int:
        users_of_main(self.server, self.options)
        return 1


class ConsumeUnderMaintenance(PgbenchPair):
    """The plain spend while its settlement goes on beside it."""

    name = "maintenance"
    title = "consume_credits while maintenance settles every second"
    goal = 0.70

    def run_ours(self) -> Sample:
        """See Measure."""
        with Maintenance(self.server) as maintenance:
            sample = super().run_ours()
        # The CPU time of maintenance is in it: it is work that the spends left.
        if not self.notes:
            self.notes.append(
                "Maintenance settles what is older than 1 s, where production waits an hour; "
                "its CPU time counts."
            )
        if maintenance.error:
            raise maintenance.error
        return sample


class Maintenance:
    """Calls credits.maintain() every second in a thread."""

    def __init__(self, server: Server) -> None:
        self._url = server.stack.database_url(MAIN)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self.error: Exception | None = None

    def __enter__(self) -> "Maintenance":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                while not self._stop.wait(1):
                    connection.execute("call credits.maintain(settle_after => '1 second')")
        except psycopg.Error as error:
            self.error = error


# -- through PostgREST --------------------------------------------------------------------------------


def drive(
    server: Server, base: str, requests: Sequence[Sequence[str]], seconds: float, what: str
) -> tuple[Sample, float]:
    """Send the requests (whole texts, a list for each connection) again and again.

    Returns requests per second with their cost, and what share of one core the generator used.
    """
    address = urlsplit(base)
    warm_up = min(0.5, seconds / 5)
    spec = {
        "host": address.hostname,
        "port": address.port,
        "seconds": seconds,
        "warm_up": warm_up,
        "requests": requests,
    }
    with server.cost() as cost:
        done = subprocess.run(
            [sys.executable, "-m", "scripts.benchmark.http_load"],
            input=json.dumps(spec),
            capture_output=True,
            text=True,
            check=False,
            cwd=server.stack.root,
        )
    if done.returncode:
        raise RuntimeError(f"The load generator failed:\n{done.stderr}")
    answer = json.loads(done.stdout)
    if answer["failed"] or not answer["requests"]:
        raise RuntimeError(
            f"{answer['failed']} of {answer['requests']} calls of {what} failed: {answer['first_failure']}"
        )
    # The backends also worked for the requests of the warm-up.
    share = seconds / (seconds + warm_up)
    calls = answer["requests"]
    sample = Sample(
        calls / answer["seconds"],
        cost.cpu_seconds * share * 1e6 / calls if cost.cpu_seconds is not None else None,
        cost.wal_bytes * share / calls,
    )
    return sample, answer["cpu_seconds"] / answer["seconds"]


class ThroughPostgrest(Measure):
    """Two RPCs over HTTP with users' tokens."""

    unit = "requests/s"

    def prepare(self) -> None:
        """See Measure."""
        self.accounts = users_of_main(self.server, self.options)
        # Only so many different tokens are needed to have PostgREST verify each.
        self.users = min(self.accounts, 3200)
        self.ids, self.tokens = users_tokens(self.server, self.users)
        self.server.settle_down(MAIN)
        self._wait_for_schema()
        self.run_peer()
        self.run_ours()

    def _wait_for_schema(self) -> None:
        """PostgREST hears of the peer's functions by a notification."""
        deadline = time.monotonic() + 20
        while True:
            try:
                self._load(self.server.postgrest_url, "bench_nothing", [{}], seconds=0.5)
                return
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _load(
        self,
        base: str,
        function: str,
        bodies: Sequence[dict[str, object]],
        seconds: float,
        path: str = "/rpc/",
    ) -> Sample:
        """Call the function with the users' tokens and bodies in turn; the value is requests per second."""
        address = urlsplit(base)
        texts = []
        for number, token in enumerate(self.tokens):
            body = json.dumps(bodies[number % len(bodies)])
            texts.append(
                f"POST {path}{function} HTTP/1.1\r\nHost: {address.netloc}\r\n"
                f"apikey: {self.server.publishable_key}\r\n"
                f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            )
        requests = [texts[i::HTTP_CONNECTIONS] or texts for i in range(HTTP_CONNECTIONS)]
        sample, self.generator_share = drive(self.server, base, requests, seconds, function)
        return sample

    @abstractmethod
    def run_ours(self) -> Sample:
        """See Measure."""

    @abstractmethod
    def run_peer(self) -> Sample:
        """See Measure."""

    def _consume(self) -> Sample:
        return self._load(
            self.server.postgrest_url,
            "consume_credits",
            [{"operation": "stable_diffusion"}],
            self.options.seconds,
        )

    def _bare(self) -> Sample:
        bodies = [
            {"account": user, "cost": 3, "operation": "stable_diffusion", "quantity": 1} for user in self.ids
        ]
        return self._load(self.server.postgrest_url, "bench_consume", bodies, self.options.seconds)

    def _nothing(self) -> Sample:
        return self._load(self.server.postgrest_url, "bench_nothing", [{}], self.options.seconds)

    def finish(self) -> None:
        """See Measure."""
        self.notes.append(f"The load generator used {self.generator_share:.0%} of one core.")
        verify(self.server, MAIN)


class Postgrest(ThroughPostgrest):
    """The plain spend as a client makes it."""

    name = "postgrest"
    title = "consume_credits through PostgREST, 32 connections, users' JWTs"
    peer = "bare minimum as an RPC, same path and tokens"
    goal = 0.90

    def run_ours(self) -> Sample:
        """See Measure."""
        return self._consume()

    def run_peer(self) -> Sample:
        """See Measure."""
        return self._bare()


class PostgrestNothing(ThroughPostgrest):
    """How much of a request is PostgREST's own."""

    name = "postgrest_nothing"
    title = "consume_credits through PostgREST"
    peer = "an RPC that does nothing"

    def run_ours(self) -> Sample:
        """See Measure."""
        return self._consume()

    def run_peer(self) -> Sample:
        """See Measure."""
        return self._nothing()


class Gateway(ThroughPostgrest):
    """What the development gateway adds."""

    name = "gateway"
    title = "consume_credits through the development gateway"
    peer = "the same straight to PostgREST"

    def run_ours(self) -> Sample:
        """See Measure."""
        return self._load(
            self.server.api_url,
            "consume_credits",
            [{"operation": "stable_diffusion"}],
            self.options.seconds,
            path="/rest/v1/rpc/",
        )

    def run_peer(self) -> Sample:
        """See Measure."""
        return self._consume()


# -- a large ledger -------------------------------------------------------------------------------------

LARGE, SMALL = "bench_large", "bench_small"


def ledgers(server: Server, options: Options) -> int:
    """Make the two databases, once. Returns how many accounts each has."""
    accounts, rows_each = options.size(100_000), 50
    for database, active in ((SMALL, accounts // 100), (LARGE, accounts)):
        with server.connect() as admin:
            if admin.execute("select 1 from pg_database where datname = %s", (database,)).fetchone():
                continue
        progress(f"Filling {database}: {accounts:,} accounts, {active * rows_each:,} ledger rows ...")
        server.create(database)
        server.run_sql(database, "ledger", accounts=accounts, active=active, rows_each=rows_each)
        server.settle_down(database)
    return accounts


class Ledgers(Measure):
    """The same pgbench script on a ledger of 5 million rows and on one of 50,000."""

    peer = "the same on 50,000 rows, as many accounts"
    script: ClassVar[str]

    def prepare(self) -> None:
        """See Measure."""
        self.accounts = self._accounts(ledgers(self.server, self.options))
        with self.server.connect() as admin:
            admin.execute("checkpoint")
        self.run_peer()
        self.run_ours()

    def _accounts(self, total: int) -> int:
        return total

    @abstractmethod
    def _run(self, database: str) -> Sample: ...

    def run_ours(self) -> Sample:
        """See Measure."""
        return self._run(LARGE)

    def run_peer(self) -> Sample:
        """See Measure."""
        return self._run(SMALL)


class ConsumeLargeLedger(Ledgers):
    """The plain spend where the ledger no longer fits into shared_buffers."""

    name = "large"
    title = "consume_credits, ledger of 5 million rows, 100,000 accounts"
    goal = 0.90

    def _run(self, database: str) -> Sample:
        run = self.server.pgbench(
            database, "consume", clients=CLIENTS, seconds=self.options.seconds, accounts=self.accounts
        )
        return Sample(run.tps, run.cpu_us, run.wal_bytes)


class History(Ledgers):
    """One user reads their history again and again."""

    name = "history"
    title = "newest 50 rows of one account, 5 million rows"
    unit = "ms"
    more_is_better = False
    goal: ClassVar[float | None] = 1.2

    def _accounts(self, total: int) -> int:
        return 1

    def _run(self, database: str) -> Sample:
        run = self.server.pgbench(
            database, "history", clients=1, seconds=self.options.seconds, accounts=self.accounts
        )
        return Sample(run.latency_ms, run.cpu_us)


class HistoryOfAny(History):
    """Many users read theirs, so that most of it comes from outside shared_buffers."""

    name = "history_any"
    title = "newest 50 rows of any of 1,000 accounts, 5 million rows"
    goal = None

    def _accounts(self, total: int) -> int:
        # Those that have history in the small ledger, too.
        return total // 100


class Usage(Measure):
    """A user reads what they used, again and again; the peer reads the kept sums as they are."""

    name = "usage"
    title = "credit_usage, 30 days and those before, an account of 150,000 rows"
    peer = "the sums by day as JSON, nothing unsettled"
    unit = "ms"
    more_is_better = False
    database: ClassVar[str] = "bench_usage"

    def prepare(self) -> None:
        """See Measure."""
        with self.server.connect() as admin:
            there = admin.execute("select 1 from pg_database where datname = %s", (self.database,)).fetchone()
        if not there:
            self.server.create(self.database)
            self.server.run_sql(self.database, "usage", entries=self.options.size(150_000, 1000))
            self.server.settle_down(self.database)
        self.run_peer()
        self.run_ours()

    def _run(self, script: str, role: str) -> Sample:
        run = self.server.pgbench(
            self.database, script, clients=1, seconds=self.options.seconds, accounts=1, role=role
        )
        return Sample(run.latency_ms, run.cpu_us)

    def run_ours(self) -> Sample:
        """See Measure."""
        return self._run(self.name, "authenticated")

    def run_peer(self) -> Sample:
        """See Measure."""
        return self._run(f"{self.name}_peer", "postgres")


class UsageOfAYear(Usage):
    """The same for a year by day."""

    name = "usage_year"
    title = "credit_usage, a year by day, an account of 150,000 rows"


# -- settlement -----------------------------------------------------------------------------------------


class Settlement(Measure):
    """Settles many rows of many accounts; the peer copies the same rows."""

    name = "settlement"
    title = "settlement of 100,000 rows over 1,000 accounts"
    peer = "INSERT ... SELECT of the same rows, two indexes"
    unit = "s"
    more_is_better = False
    goal = 6.0
    full_accounts: ClassVar[int] = 1000

    def prepare(self) -> None:
        """See Measure."""
        self.accounts = self.options.size(self.full_accounts)
        self.rows_each = self.options.size(100_000) // self.accounts
        self.database = f"bench_{self.name}"
        self.server.create(self.database)
        self.server.run_sql(self.database, "copy", role="postgres")
        with psycopg.connect(self.server.stack.database_url(self.database)) as connection:
            connection.execute(
                "insert into auth.users (id) select gen_random_uuid() from generate_series(1, %s)",
                (self.accounts,),
            )
            connection.execute(
                "select count(public.grant_credits(u.id, 900000000, 'purchase')) from auth.users as u"
            )
        settle_all(self.server, self.database)
        self.bytes_before, self.filled = self.server.appended_bytes(self.database), 0
        self._more_rows()
        self.run_peer()
        self.run_ours()

    def _more_rows(self) -> None:
        self.server.run_sql(self.database, "unsettled", rows_each=self.rows_each)
        self.server.settle_down(self.database)
        self.unsettled = True
        self.filled += 1

    def run_ours(self) -> Sample:
        """See Measure."""
        if not self.unsettled:
            self._more_rows()
        self.unsettled = False
        with self.server.cost() as cost:
            seconds = settle_all(self.server, self.database)
        return self._sample(seconds, cost.cpu_seconds, cost.wal_bytes)

    def run_peer(self) -> Sample:
        """See Measure."""
        if not self.unsettled:
            self._more_rows()
        wanted = self.accounts * self.rows_each
        with psycopg.connect(self.server.stack.database_url(self.database), autocommit=True) as connection:
            connection.execute("truncate peer.copied")
            with self.server.cost() as cost:
                began = time.perf_counter()
                copied = connection.execute(
                    "insert into peer.copied select t.* from public.credit_transactions as t "
                    "inner join public.credit_accounts as a on t.account_id = a.id "
                    "where t.id > a.settled_through"
                ).rowcount
                seconds = time.perf_counter() - began
        if copied != wanted:
            raise RuntimeError(f"{copied} rows were copied, not {wanted}")
        return self._sample(seconds, cost.cpu_seconds, cost.wal_bytes)

    def _sample(self, seconds: float, cpu: float | None, wal: float) -> Sample:
        rows = self.accounts * self.rows_each
        return Sample(seconds, cpu * 1e6 / rows if cpu is not None else None, wal / rows)

    def finish(self) -> None:
        """See Measure."""
        settle_all(self.server, self.database)
        self.server.settle_down(self.database)
        self.bytes_each = (self.server.appended_bytes(self.database) - self.bytes_before) / (
            self.filled * self.accounts * self.rows_each
        )
        self.notes.append("CPU and WAL ratios: for one ledger row.")
        verify(self.server, self.database)

    def rows(self, result: Result) -> list[Result]:
        """See Measure."""
        return [result, bytes_of(self.name, f"{min(self.rows_each, 1000)} to a seal", self.bytes_each, 1.0)]


class SettlementOfOne(Settlement):
    """All of the rows are one account's."""

    name = "settlement_one"
    title = "settlement of 100,000 rows of one account"
    goal = 4.0
    full_accounts = 1


def settle_all(server: Server, database: str) -> float:
    """Have maintenance settle everything; returns the seconds that it took."""
    url = server.stack.database_url(database)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set statement_timeout = 0")
        began = time.perf_counter()
        settle(connection)
        return time.perf_counter() - began


def settle(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    """Call what pg_cron calls until nothing is left to do."""
    more = True
    while more:
        row = connection.execute("call credits.maintain(settle_after => '0')").fetchone()
        more = bool(row and row[0])


def bytes_of(name: str, what: str, ours: float, goal: float | None) -> Result:
    """What a spend and its settlement leave on the disk, as a row of the table."""
    return Result(
        f"{name}_bytes", f"bytes of a spend, its indexes and settlement, {what}", "300 bytes", "bytes", goal,
        False, [Sample(ours)], [Sample(300)],
    )  # fmt: skip


class Sparse(Measure):
    """Every account spends once, then all are settled: what most users are like. Processor time only."""

    name = "sparse"
    title = "a spend and its settlement, every account spending once between two"
    peer = "bare minimum, nothing to settle"
    unit = "us CPU"
    more_is_better = False
    goal = 1.7
    connections: ClassVar[int] = 8

    def prepare(self) -> None:
        """See Measure."""
        self.accounts, self.database = self.options.size(10_000, 20), "bench_sparse"
        self.server.create(self.database)
        self.server.run_sql(self.database, "peer", role="postgres")
        self.server.run_sql(self.database, "accounts", role="postgres", accounts=self.accounts)
        settle_all(self.server, self.database)
        # Connections that live as long as PostgREST's have compiled the functions once.
        options = "-c role=authenticated -c statement_timeout=0"
        url = self.server.stack.database_url(self.database)
        self.sessions = [
            psycopg.connect(url, autocommit=True, options=options) for _ in range(self.connections)
        ]
        self.settlements = psycopg.connect(url, autocommit=True, options="-c statement_timeout=0")
        self.spends = 0
        self.bytes_before = self.server.appended_bytes(self.database)
        self.parts: list[tuple[float, float]] = []
        for _ in range(2):
            self.run_peer()
            self.run_ours()
        self.parts.clear()

    def close(self) -> None:
        """See Measure."""
        for session in (*getattr(self, "sessions", []), *filter(None, [getattr(self, "settlements", None)])):
            session.close()

    def _spend(self, call: str) -> Sample:
        """The call once for each account, from all sessions at once."""
        errors: list[BaseException] = []

        def some(first: int) -> None:
            try:
                for n in range(first, self.accounts + 1, self.connections):
                    self.sessions[first - 1].execute(
                        'select set_config(\'request.jwt.claims\', format(\'{"sub":"%s","role":'
                        '"authenticated","aud":"authenticated","exp":9999999999}\', '
                        f"md5('user {n}')::uuid), true); select {call.replace('USER', str(n))}".encode()
                    )
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=some, args=(n + 1,)) for n in range(self.connections)]
        with self.server.cost() as cost:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        if cost.cpu_seconds is None:
            raise RuntimeError("This system does not tell how much processor time a process used.")
        each = cost.cpu_seconds * 1e6 / self.accounts
        return Sample(each, each, cost.wal_bytes / self.accounts)

    def run_ours(self) -> Sample:
        """See Measure."""
        spend = self._spend("consume_credits('stable_diffusion')")
        self.spends += self.accounts
        with self.server.cost() as cost:
            settle(self.settlements)
        assert cost.cpu_seconds is not None and spend.cpu_us and spend.wal_bytes
        settlement = cost.cpu_seconds * 1e6 / self.accounts
        self.parts.append((spend.cpu_us, settlement))
        both = spend.cpu_us + settlement
        return Sample(both, both, spend.wal_bytes + cost.wal_bytes / self.accounts)

    def run_peer(self) -> Sample:
        """See Measure."""
        return self._spend("bench_consume(md5('user USER')::uuid, 3, 'stable_diffusion', 1)")

    def finish(self) -> None:
        """See Measure."""
        parts = "; ".join(f"{spend:.0f} + {settlement:.0f}" for spend, settlement in self.parts)
        self.notes.append(f"Microseconds of a spend + of its settlement, round by round: {parts}.")
        self.server.settle_down(self.database)
        self.bytes_each = (self.server.appended_bytes(self.database) - self.bytes_before) / self.spends
        verify(self.server, self.database)

    def rows(self, result: Result) -> list[Result]:
        """See Measure."""
        return [result, bytes_of(self.name, "one to a seal", self.bytes_each, None)]


MEASURES: tuple[type[Measure], ...] = (
    Consume,
    ConsumeWithKey,
    HotAccount,
    ConsumeUnderMaintenance,
    Postgrest,
    PostgrestNothing,
    Gateway,
    ConsumeLargeLedger,
    History,
    HistoryOfAny,
    Usage,
    UsageOfAYear,
    Settlement,
    SettlementOfOne,
    Sparse,
)
