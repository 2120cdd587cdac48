"""One local stack as a whole: Postgres, PostgREST, the local Stripe and the gateway, and back."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from . import keys as keyring
from . import migrations, ports, providers
from .errors import StackError
from .paths import Paths, collect_garbage
from .postgres import Postgres, tool
from .postgrest import Postgrest
from .processes import Daemon, uninterrupted

DEFAULT_PORT = 54321
PARTS = ("postgres", "postgrest", "stripe", "gateway")
OPTIONAL_PARTS = ("providers",)
# Requests that are under way may take 10 seconds, then what the functions still do 10 more.
GATEWAY_STOP_SECONDS = 30


@dataclass
class State:
    """What a stack remembers between commands. Ports are TCP ports on 127.0.0.1."""

    port: int
    # Whether a person chose the port: then it does not change by itself.
    port_chosen: bool = False
    postgrest_port: int = 0
    postgrest_admin_port: int = 0
    stripe_port: int = 0
    providers_port: int = 0
    ticker: bool = True
    providers: bool = False
    seeded: bool = False


@dataclass(frozen=True)
class Status:
    """Where a running stack is and how to get in."""

    name: str
    # The API's port, when it is not the usual one and nobody chose it.
    moved_to: int | None
    api_url: str
    db_url: str
    functions_url: str
    anon_key: str
    service_role_key: str
    publishable_key: str
    secret_key: str
    jwt_secret: str
    stripe_api_base: str
    stripe_secret_key: str
    stripe_webhook_secret: str
    # Of the local AI providers, by the names of providers.environment(); empty without them.
    providers: dict[str, str]
    # Beyond what `supabase status` tells: PostgREST without the gateway, and the superuser's way in.
    postgrest_url: str
    admin_db_url: str

    def env(self) -> dict[str, str]:
        """The values by the names that `supabase status -o env` prints, then those of the stand-ins."""
        return {
            "API_URL": self.api_url,
            "DB_URL": self.db_url,
            "FUNCTIONS_URL": self.functions_url,
            "ANON_KEY": self.anon_key,
            "SERVICE_ROLE_KEY": self.service_role_key,
            "PUBLISHABLE_KEY": self.publishable_key,
            "SECRET_KEY": self.secret_key,
            "JWT_SECRET": self.jwt_secret,
            "STRIPE_API_BASE": self.stripe_api_base,
            "STRIPE_SECRET_KEY": self.stripe_secret_key,
            "STRIPE_WEBHOOK_SECRET": self.stripe_webhook_secret,
            **self.providers,
        }


@dataclass(frozen=True)
class GatewaySettings:
    """What the gateway process needs to know."""

    keys: keyring.Keys
    port: int
    ticker: bool
    api_url: str
    postgrest_url: str
    db_url: str
    auth_db_url: str
    storage_db_url: str
    storage_folder: Path
    realtime_db_url: str
    stripe_api_base: str
    providers: dict[str, str]
    redirect_origins: str

    @property
    def issuer(self) -> str:
        """Where Auth is, which tokens name as theirs."""
        return f"{self.api_url}/auth/v1"

    def function_environment(self) -> dict[str, str]:
        """The variables that Supabase gives functions, new names (JSON) and legacy; then the stand-ins'."""
        return {
            "SUPABASE_URL": self.api_url,
            "SUPABASE_DB_URL": self.db_url,
            "SUPABASE_ANON_KEY": self.keys.anon_key,
            "SUPABASE_SERVICE_ROLE_KEY": self.keys.service_role_key,
            "SUPABASE_PUBLISHABLE_KEYS": json.dumps({"default": self.keys.publishable_key}),
            "SUPABASE_SECRET_KEYS": json.dumps({"default": self.keys.secret_key}),
            "SUPABASE_JWKS": self.keys.verifying_jwks(),
            "STRIPE_API_BASE": self.stripe_api_base,
            "STRIPE_SECRET_KEY": self.keys.stripe_secret_key,
            "STRIPE_WEBHOOK_SECRET": self.keys.stripe_webhook_secret,
            **self.providers,
            "GENERATION_GRACE_SECONDS": "10",  # within GATEWAY_STOP_SECONDS
            "ALLOWED_REDIRECT_ORIGINS": os.environ.get("ALLOWED_REDIRECT_ORIGINS") or self.redirect_origins,
        }


def redirect_origins(root: Path) -> str:
    """Where Stripe may send people back to: site_url of supabase/config.toml, and the usual localhost."""
    config = root / "supabase" / "config.toml"
    auth = tomllib.loads(config.read_text()).get("auth", {}) if config.exists() else {}
    site = urlsplit(auth.get("site_url", ""))
    return ",".join([*([f"{site.scheme}://{site.netloc}"] if site.netloc else []), "http://localhost:3000"])


class Stack:
    """The stack NAME of the checkout at `root`. `port` None means: as last time, or 54321, or the next free.

    `say` gets progress, one line a step. Errors are StackError.
    """

    def __init__(
        self,
        root: Path,
        name: str = "default",
        port: int | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        if port is not None and not 1024 <= port <= 65534:
            raise StackError(f"{port} is not a port for the API: choose one from 1024 to 65534.")
        self.root = root.resolve()
        self.paths = Paths(self.root, name)
        self.name = name
        self._wanted_port = port
        self._say = say

    # -- state ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One command at a time changes a stack."""
        self.paths.state.parent.mkdir(mode=0o700, exist_ok=True)
        path = self.paths.state.with_suffix(".lock")
        while True:
            with path.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Whoever held it may have deleted the stack, and this file with it.
                if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                    try:
                        yield
                    finally:
                        if not self.paths.state.exists():
                            path.unlink(missing_ok=True)
                            with contextlib.suppress(OSError):
                                path.parent.rmdir()
                    return
            self.paths.state.parent.mkdir(mode=0o700, exist_ok=True)

    def _load(self) -> State | None:
        try:
            kept = json.loads(self.paths.file("stack.json").read_text())
        except FileNotFoundError:
            return None
        # Older stacks did not note it, and left the usual port only for a chosen one.
        return State(**{"port_chosen": kept["port"] != DEFAULT_PORT, **kept})

    def _save(self, state: State) -> None:
        keyring.write_private(self.paths.file("stack.json"), json.dumps(asdict(state), indent=2))

    def _keys(self) -> keyring.Keys:
        return keyring.load_or_create(self.paths.file("secrets.json"))

    def _postgres(self, state: State) -> Postgres:
        return Postgres(self.paths, self._keys(), state.port + 1)

    def _postgrest(self, state: State) -> Postgrest:
        url = self._postgres(state).url(role="authenticator")
        jwks = self._keys().verifying_jwks()
        return Postgrest(self.paths, state.postgrest_port, state.postgrest_admin_port, url, jwks)

    def _gateway(self) -> Daemon:
        return self._daemons()["gateway"]

    def _daemons(self) -> dict[str, Daemon]:
        return {
            part: Daemon(part, self.paths.file(f"{part}.pid"), self.paths.file(f"{part}.log"))
            for part in PARTS + OPTIONAL_PARTS
        }

    def down(self) -> list[str]:
        """The parts that should run and do not."""
        state = self._load()
        wanted = PARTS + OPTIONAL_PARTS if state and state.providers else PARTS
        return [part for part in wanted if self._daemons()[part].pid() is None]

    def _runs(self) -> bool:
        """Whether any part runs."""
        return any(daemon.pid() is not None for daemon in self._daemons().values())

    # -- start ---------------------------------------------------------------------------------

    def start(self, ticker: bool = True, providers: bool = False) -> bool:
        """Start what is not running, apply pending migrations, seed a fresh database.

        Returns False when everything ran already. When it fails or is interrupted, what it started is
        stopped again. `ticker` False leaves credits.maintain() to the caller. `providers` starts the
        local AI providers, too; they stay until the stack stops.
        """
        with self._lock():
            return self._start(ticker, providers)

    def _start(self, ticker: bool, providers: bool) -> bool:
        self.paths.make()
        collect_garbage()
        known = self._load()
        down = self.down()
        runs = self._runs()
        if known and runs and self._wanted_port not in (None, known.port):
            raise StackError(
                f"The stack `{self.name}` already runs on port {known.port}; stop it first, "
                "or start another beside it with --name."
            )
        state = self._choose(known, runs)
        state.providers = state.providers or providers
        if "gateway" in down:
            ports.require_free(state.port, "API")
            state.ticker = ticker
        if "postgres" in down:
            ports.require_free(state.port + 1, "database")
        self._save(state)
        started: list[Callable[[], object]] = []
        try:
            self._bring_up(state, down, started)
        except BaseException:
            with uninterrupted():
                for stop in reversed(started):
                    stop()
            raise
        return bool(started)

    def _choose(self, known: State | None, runs: bool) -> State:
        """What to start with. One stack of the checkout at a time chooses: no two take the same ports."""
        folder = os.open(self.paths.state.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            state = self._state(known, runs)
            self._save(state)
        finally:
            os.close(folder)
        return state

    def _state(self, known: State | None, runs: bool) -> State:
        """The ports of last time, else the usual ones, else the next that are free."""
        state = replace(known, providers=runs and known.providers) if known else State(DEFAULT_PORT)
        if self._wanted_port:
            state.port, state.port_chosen = self._wanted_port, True
        elif not (runs or state.port_chosen):
            reserved = self._reserved()
            pair = state.port, state.port + 1
            if not all(port not in reserved and ports.comes_free(port) for port in pair):
                state.port = ports.next_pair(DEFAULT_PORT, reserved)
                self._say(
                    f"Port {pair[0]} or {pair[1]} is in use or another stack's, so the API listens on "
                    f"{state.port} and the database on {state.port + 1}; --port N chooses others."
                )
        return state

    def _reserved(self) -> set[int]:
        """The ports of the checkout's other stacks, whether they run or not."""
        names = {file.parent.name for file in self.paths.state.parent.glob("*/stack.json")} - {self.name}
        others = [Stack(self.root, name)._load() for name in names]
        return {port for state in others if state for port in (state.port, state.port + 1)}

    def _bring_up(self, state: State, down: list[str], started: list[Callable[[], object]]) -> None:
        standins = [("stripe", self._begin_stripe(state, started))]  # they come up while Postgres does
        if state.providers:
            standins.append(("providers", self._begin_providers(state, started)))
        postgres = self._postgres(state)
        if "postgres" in down:
            started.append(postgres.stop)
            fresh = not postgres.exists()
            if fresh:
                self._say("Making a new database cluster ...")
                postgres.create()
                state.seeded = False
                self._save(state)
            self._say(f"Starting Postgres on port {postgres.port} ...")
            postgres.start()
            if fresh:
                postgres.bootstrap()
        self._migrate(state, postgres)
        self._bring_up_postgrest(state, restart="postgres" in down, started=started)
        for part, process in standins:
            if process:
                self._await(process, getattr(state, f"{part}_port"), self._daemons()[part])
        self._bring_up_gateway(state, started)

    def _migrate(self, state: State, postgres: Postgres) -> None:
        if migrations.pending(self.root, postgres.url()):
            self._say("Applying migrations ...")
            for version in migrations.apply(self.root, postgres.url()):
                self._say(f"  applied {version}")
        if state.seeded or not migrations.versions(self.root):
            return  # a seed fills tables that migrations make
        seed = self.root / "supabase" / "seed.sql"
        if seed.exists():
            self._say("Applying supabase/seed.sql ...")
            postgres.run_file(seed)
        state.seeded = True
        self._save(state)

    def _bring_up_postgrest(self, state: State, restart: bool, started: list[Callable[[], object]]) -> None:
        postgrest = self._postgrest(state)
        if postgrest.daemon.pid() is not None:
            if not restart and postgrest.ready():
                return
            # After its database was away it waits ever longer between attempts to reconnect.
            postgrest.daemon.stop()
        started.append(postgrest.daemon.stop)
        self._say("Starting PostgREST ...")
        for attempt in range(3):
            # The gateway knows the ports of last time, so keep them while they are free.
            last = state.postgrest_port, state.postgrest_admin_port
            if attempt or not all(port and ports.is_free(port) for port in last):
                state.postgrest_port, state.postgrest_admin_port = ports.ephemeral(), ports.ephemeral()
                self._save(state)
                self._gateway().stop()
            try:
                self._postgrest(state).start()
                return
            except StackError:
                postgrest.daemon.stop()
                if attempt == 2 or "Address already in use" not in postgrest.daemon.log_tail():
                    raise

    def _begin_stripe(
        self, state: State, started: list[Callable[[], object]]
    ) -> "subprocess.Popen[bytes] | None":
        """Spawn the local Stripe; None when it runs."""
        keys = self._keys()
        options = [
            "--database", str(self.paths.file("stripe.db")),
            "--webhook-url", f"http://{ports.HOST}:{state.port}/functions/v1/stripe-webhook",
        ]  # fmt: skip
        environment = {
            "STRIPE_SECRET_KEY": keys.stripe_secret_key,
            "STRIPE_WEBHOOK_SECRET": keys.stripe_webhook_secret,
        }
        return self._begin_standin("stripe", "local Stripe", state, started, options, environment)

    def _begin_providers(
        self, state: State, started: list[Callable[[], object]]
    ) -> "subprocess.Popen[bytes] | None":
        """Spawn the local AI providers; None when they run."""
        keys = providers.keys(self._keys().providers_secret)
        return self._begin_standin("providers", "local AI providers", state, started, [], keys)

    def _begin_standin(
        self,
        part: str,
        title: str,
        state: State,
        started: list[Callable[[], object]],
        options: list[str],
        environment: dict[str, str],
    ) -> "subprocess.Popen[bytes] | None":
        """Spawn scripts/local_PART on the part's port; None when it runs."""
        daemon, port = self._daemons()[part], getattr(state, f"{part}_port")
        if daemon.pid() is not None:
            if self._answers(port, 5):
                return None
            daemon.stop()
        if not (port and ports.is_free(port)):
            port = ports.ephemeral()
            setattr(state, f"{part}_port", port)
            self._save(state)
            self._gateway().stop()  # its functions know the port of last time
        started.append(daemon.stop)
        self._say(f"Starting the {title} ...")
        return daemon.spawn(
            [sys.executable, "-m", f"scripts.local.{part}", "--port", str(port), *options],
            env={
                **os.environ, "PYTHONPATH": str(self.root), "PYTHONUNBUFFERED": "1", **environment,
            },
            cwd=self.root,
        )  # fmt: skip

    def _bring_up_gateway(self, state: State, started: list[Callable[[], object]]) -> None:
        gateway = self._gateway()
        if gateway.pid() is not None:
            if self._answers(state.port, 5):
                return
            gateway.stop()
        started.append(gateway.stop)
        self._say(f"Starting the gateway on port {state.port} ...")
        process = gateway.spawn(
            [
                sys.executable,
                "-m",
                "scripts.local.stack.gateway",
                "--root",
                str(self.root),
                "--name",
                self.name,
            ],
            env={**os.environ, "PYTHONPATH": str(self.root), "PYTHONUNBUFFERED": "1"},
            cwd=self.root,
        )
        self._await(process, state.port, gateway)

    def _await(self, process: "subprocess.Popen[bytes]", port: int, daemon: Daemon) -> None:
        """Wait until the process answers. Raises StackError when it ends or takes too long."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            if self._answers(port, 2):
                return
            time.sleep(0.03)
        raise StackError(f"The {daemon.name} did not start:\n{daemon.log_tail()}")

    @staticmethod
    def _answers(port: int, seconds: float) -> bool:
        try:
            # Plain HTTP: no authorities to load, which takes longer than the question.
            url = f"http://{ports.HOST}:{port}/health"
            answer = httpx.get(url, timeout=seconds, trust_env=False, verify=False)  # noqa: S501
        except httpx.HTTPError:
            return False
        return answer.is_success

    # -- stop, reset, status -------------------------------------------------------------------

    def stop(self, delete: bool = False) -> bool:
        """Stop every part, also what a killed part left behind. Returns whether anything ran.

        `delete` throws the data, the keys and the logs away as well.
        """
        if not self.paths.state.exists():
            return False
        with self._lock():
            ran = self._stop()
            if delete:
                self.paths.remove()
        return ran

    def _stop(self) -> bool:
        ran = [self._gateway().stop(GATEWAY_STOP_SECONDS)]
        ran += [self._daemons()[part].stop() for part in ("stripe", "providers", "postgrest")]
        state = self._load() or State(DEFAULT_PORT)
        ran.append(self._postgres(state).stop())
        return any(ran)

    def reset(self) -> None:
        """Throw the database, the stored files and Stripe's state away; start with migrations and seed.

        Keys stay.
        """
        with self._lock():
            known = self._load()
            if known:
                self._stop()
                shutil.rmtree(self.paths.data, ignore_errors=True)
                shutil.rmtree(self.paths.file("storage"), ignore_errors=True)
                self.paths.file("cluster.ready").unlink(missing_ok=True)
                for part in self.paths.state.glob("stripe.db*"):
                    part.unlink()
            self._start(known.ticker if known else True, bool(known and known.providers))

    def status(self) -> Status:
        """Addresses and keys. Raises StackError when the stack is not up."""
        state = self._load()
        down = self.down()
        if state is None or not self._runs():
            raise StackError(f"The stack `{self.name}` is not running; `scripts/stack start` starts it.")
        if down:
            raise StackError(
                f"The stack `{self.name}` is damaged: {' and '.join(down)} not running; "
                "`scripts/stack start` repairs it."
            )
        keys, postgres = self._keys(), self._postgres(state)
        api_url = f"http://{ports.HOST}:{state.port}"
        return Status(
            name=self.name,
            moved_to=None if state.port_chosen or state.port == DEFAULT_PORT else state.port,
            api_url=api_url,
            db_url=postgres.url(),
            functions_url=f"{api_url}/functions/v1",
            anon_key=keys.anon_key,
            service_role_key=keys.service_role_key,
            publishable_key=keys.publishable_key,
            secret_key=keys.secret_key,
            jwt_secret=keys.jwt_secret,
            stripe_api_base=f"http://{ports.HOST}:{state.stripe_port}",
            stripe_secret_key=keys.stripe_secret_key,
            stripe_webhook_secret=keys.stripe_webhook_secret,
            providers=self._provider_environment(state),
            postgrest_url=f"http://{ports.HOST}:{state.postgrest_port}",
            admin_db_url=postgres.url(role="supabase_admin"),
        )

    def gateway_settings(self) -> GatewaySettings:
        """For the gateway process, which starts before status() has all parts to tell of."""
        state = self._load()
        if state is None:
            raise StackError(f"There is no stack `{self.name}`.")
        postgres = self._postgres(state)
        return GatewaySettings(
            keys=self._keys(),
            port=state.port,
            ticker=state.ticker,
            api_url=f"http://{ports.HOST}:{state.port}",
            postgrest_url=f"http://{ports.HOST}:{state.postgrest_port}",
            db_url=postgres.url(),
            auth_db_url=postgres.url(role="supabase_auth_admin"),
            storage_db_url=postgres.url(role="supabase_storage_admin"),
            storage_folder=self.paths.file("storage"),
            realtime_db_url=postgres.url(role="supabase_realtime_admin"),
            stripe_api_base=f"http://{ports.HOST}:{state.stripe_port}",
            providers=self._provider_environment(state),
            redirect_origins=redirect_origins(self.root),
        )

    def _provider_environment(self, state: State) -> dict[str, str]:
        if not state.providers:
            return {}
        base = f"http://{ports.HOST}:{state.providers_port}"
        return providers.environment(self._keys().providers_secret, base)

    def log_files(self, part: str | None = None) -> list[Path]:
        """The logs, of one part or of all."""
        return [daemon.log_file for name, daemon in self._daemons().items() if part in (None, name)]

    # -- for tests and benchmarks --------------------------------------------------------------

    def _running_postgres(self) -> Postgres:
        state = self._load()
        if state is None:
            raise StackError(f"The stack `{self.name}` is not running; `scripts/stack start` starts it.")
        return self._postgres(state)

    def database_url(self, name: str, role: str = "postgres") -> str:
        """The URL of a database of this stack, for one of the roles that log in."""
        return self._running_postgres().url(name, role)

    def create_database(self, name: str, template: str = "supabase_template") -> str:
        """Make a database, by default as empty as a new project's. Returns its URL for `postgres`."""
        postgres = self._running_postgres()
        postgres.create_database(name, template)
        return postgres.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and the connections to it."""
        self._running_postgres().drop_database(name)

    def apply_migrations(self, db_url: str) -> list[str]:
        """Apply pending migrations to any database. Returns their versions."""
        return migrations.apply(self.root, db_url)

    def pid(self, part: str) -> int | None:
        """The process id of a part, such as gateway; None when it does not run."""
        return self._daemons()[part].pid()

    def pg_tool(self, name: str) -> str:
        """The path of a Postgres program such as pgbench or pg_dump, of the version that the stack runs."""
        return tool(name)
