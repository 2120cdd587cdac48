"""Fixtures that give every test a live stack.

With API_URL, DB_URL, ANON_KEY, SERVICE_ROLE_KEY and JWT_SECRET in the environment, as
`eval "$(supabase status -o env)"` puts them, the tests run against that. Otherwise an embedded stack
named test-PID is started on free ports, and deleted at the end.
"""

import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import ssl
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
import pytest

from scripts.local.stack import Stack, ports
from scripts.local.stack.processes import start_time
from supabase import Client
from tests.support import prepared
from tests.support.ledger import Ledger
from tests.support.projects import Run
from tests.support.stack import NEEDED, ROOT, Database, Env, User

# Each user has clients of their own, and each client would read all certificate authorities, for 20 ms. They
# speak plain HTTP to this machine.
ssl.create_default_context = functools.cache(ssl.create_default_context)  # type: ignore[assignment]
os.environ.setdefault("LOCAL_AUTH_BCRYPT_COST", "4")

pytest_plugins = ["tests.support.parallel"] if importlib.util.find_spec("xdist") else []


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """End on SIGTERM as on Ctrl-C: with the fixtures torn down, and no stack left running."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _sweep() -> None:
    """Delete the stacks of test runs that were killed."""
    for folder in (ROOT / ".stack").glob("test-*"):
        pid = folder.name.split("-")[1]
        if folder.is_dir() and pid.isdigit() and start_time(int(pid)) is None:
            Stack(ROOT, folder.name).stop(delete=True)


@pytest.fixture(scope="session")
def _live() -> Iterator[tuple[Env, Stack | None]]:
    if all(os.environ.get(name) for name in NEEDED):
        given = os.environ
        yield (
            Env(
                api_url=given["API_URL"],
                db_url=given["DB_URL"],
                functions_url=given.get("FUNCTIONS_URL") or f"{given['API_URL']}/functions/v1",
                anon_key=given["ANON_KEY"],
                service_role_key=given["SERVICE_ROLE_KEY"],
                publishable_key=given.get("PUBLISHABLE_KEY") or given["ANON_KEY"],
                secret_key=given.get("SECRET_KEY") or given["SERVICE_ROLE_KEY"],
                jwt_secret=given["JWT_SECRET"],
                stripe_api_base=given.get("STRIPE_API_BASE", ""),
                stripe_secret_key=given.get("STRIPE_SECRET_KEY", ""),
                stripe_webhook_secret=given.get("STRIPE_WEBHOOK_SECRET", ""),
            ),
            None,
        )
        return
    _sweep()
    stack = Stack(ROOT, f"test-{os.getpid()}", ports.free_pair())
    try:
        prepared.start(stack)
        with psycopg.connect(stack.status().admin_db_url, autocommit=True) as admin:
            # Nothing here outlives the machine. tests/crash has a stack as Postgres ships it.
            admin.execute("alter system set fsync = off")
            admin.execute("select pg_reload_conf()")
        yield Env.of(stack), stack
    finally:
        stack.stop(delete=True)


@pytest.fixture(scope="session")
def env(_live: tuple[Env, Stack | None]) -> Env:
    """Addresses and keys of the live stack."""
    return _live[0]


@pytest.fixture(scope="session")
def stack(_live: tuple[Env, Stack | None]) -> Stack:
    """The embedded stack itself; skips when the stack came from the environment."""
    if _live[1] is None:
        pytest.skip("needs the embedded stack")
    return _live[1]


@pytest.fixture
def user(env: Env) -> Callable[..., User]:
    """A factory: each call signs up a fresh user. Keyword arguments become the user's metadata."""

    def make(**metadata: Any) -> User:
        client = env.client()
        email, password = f"user-{uuid.uuid4().hex}@example.com", "correct horse"
        answer = client.auth.sign_up({"email": email, "password": password, "options": {"data": metadata}})
        assert answer.user and answer.session
        return User(client, answer.user.id, email, password, answer.session.access_token)

    return make


@pytest.fixture(scope="session")
def service(env: Env) -> Client:
    """A supabase-py client with the secret key: role service_role."""
    return env.client(env.secret_key)


@pytest.fixture
def db(env: Env) -> Iterator["psycopg.Connection[Any]"]:
    """An autocommit connection as `postgres`, the role of migrations and operators."""
    with psycopg.connect(env.db_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def admin_db(env: Env) -> Iterator["psycopg.Connection[Any]"]:
    """An autocommit connection as the superuser supabase_admin; skips when the stack is not ours."""
    if env.admin_db_url is None:
        pytest.skip("needs the embedded stack's superuser")
    with psycopg.connect(env.admin_db_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def _migrated_template(stack: Stack) -> str:
    """A database with the migrations applied once, to copy from."""
    return prepared.MIGRATED


@pytest.fixture
def scratch_db(stack: Stack, _migrated_template: str) -> Iterator[Database]:
    """A fresh database with the migrations applied and no seed. PostgREST does not serve it."""
    name = f"scratch_{uuid.uuid4().hex[:12]}"
    url = stack.create_database(name, template=_migrated_template)
    yield Database(name, url, stack.database_url(name, "supabase_admin"))
    stack.drop_database(name)


@pytest.fixture(scope="session")
def _clocked_template(stack: Stack) -> str:
    """A database with migrations, seed, a flat price and a clock that stands still, to copy from."""
    return prepared.CLOCKED


def _connect_ledger(database: Database) -> Ledger:
    # Nothing here has to outlive a crash.
    return Ledger(psycopg.connect(database.url, autocommit=True, options="-c synchronous_commit=off"))


def _clocked_copy(stack: Stack, template: str) -> Iterator[Database]:
    name = f"clocked_{uuid.uuid4().hex[:12]}"
    url = stack.create_database(name, template=template)
    yield Database(name, url, stack.database_url(name, "supabase_admin"))
    stack.drop_database(name)


@pytest.fixture(scope="session")
def _shared_db(stack: Stack, _clocked_template: str) -> Iterator[Database]:
    yield from _clocked_copy(stack, _clocked_template)


@pytest.fixture(scope="session")
def ledger(_shared_db: Database) -> Iterator[Ledger]:
    """A database with a clock that only tests move, shared: a test makes its own users, and sets nothing
    for all.
    """
    with _connect_ledger(_shared_db) as made:
        yield made


@pytest.fixture
def own_db(stack: Stack, _clocked_template: str) -> Iterator[Database]:
    """The same as a database of the test's own, for those who change settings."""
    yield from _clocked_copy(stack, _clocked_template)


@pytest.fixture
def own_ledger(own_db: Database) -> Iterator[Ledger]:
    """The ledger in a database of the test's own."""
    with _connect_ledger(own_db) as made:
        yield made


@pytest.fixture(scope="module")
def module_db(stack: Stack, _clocked_template: str) -> Iterator[Database]:
    """A database of the test file's own, for those who undo what they do."""
    yield from _clocked_copy(stack, _clocked_template)


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
        "requirements-browser.lock",
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
