"""Where a stack keeps its things.

State lies in `.stack/NAME/` of the checkout. Postgres refuses to run as root; started by root it runs
as another user, who may not be able to enter the checkout. Its binaries and data then lie below
/var/lib/supabase-credits (SUPABASE_CREDITS_HOME overrides it), and `.stack/NAME/data` is a link there.
"""

import contextlib
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import StackError
from .processes import wait_gone, with_working_directory


def as_root() -> bool:
    """Whether this process is root, so that Postgres must run as somebody else."""
    return os.geteuid() == 0


def postgres_user() -> pwd.struct_passwd:
    """The account that Postgres runs as when root starts it."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise StackError(
        "Postgres cannot run as root, and there is no user `postgres` or `nobody` to run it as; "
        "add one (`useradd --system postgres`) or run this as a normal user."
    )


def popen_user() -> dict[str, Any]:
    """Arguments for subprocess that make the child run as the Postgres user; none for a normal user."""
    if not as_root():
        return {}
    account = postgres_user()
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def root_home() -> Path:
    """The folder that root keeps Postgres's binaries and data in."""
    return Path(os.environ.get("SUPABASE_CREDITS_HOME", "/var/lib/supabase-credits"))


@dataclass(frozen=True)
class Paths:
    """The files of the stack NAME in the checkout at `root`."""

    root: Path
    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", self.name):
            raise StackError(
                f"{self.name!r} is not a name for a stack: "
                "use up to 40 of a-z, 0-9, - and _, letter or digit first."
            )

    @property
    def state(self) -> Path:
        """The state folder, mode 0700."""
        return self.root / ".stack" / self.name

    @property
    def cluster_home(self) -> Path:
        """The folder that holds the data directory."""
        if not as_root():
            return self.state
        key = hashlib.sha256(f"{self.root}\0{self.name}".encode()).hexdigest()[:16]
        return root_home() / "data" / key

    @property
    def data(self) -> Path:
        """Postgres's data directory."""
        return self.cluster_home / "pgdata"

    def file(self, name: str) -> Path:
        """A file in the state folder."""
        return self.state / name

    def make(self) -> None:
        """Create the folders."""
        self.state.parent.mkdir(mode=0o700, exist_ok=True)
        self.state.mkdir(mode=0o700, exist_ok=True)
        if not as_root():
            return
        # The link comes first: without it collect_garbage() of another stack may take the data away.
        link = self.file("data")
        if not link.is_symlink() or link.readlink() != self.cluster_home:
            link.unlink(missing_ok=True)
            link.symlink_to(self.cluster_home)
        for folder in (root_home(), root_home() / "data", self.cluster_home):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            folder.chmod(0o755)  # the umask may have taken the others' x, which Postgres's user needs
        owner = {"root": str(self.root), "name": self.name}
        (self.cluster_home / "owner.json").write_text(json.dumps(owner))

    def remove(self) -> None:
        """Delete everything. The stack must be stopped."""
        if as_root():
            shutil.rmtree(self.cluster_home, ignore_errors=True)
        shutil.rmtree(self.state, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.state.parent.rmdir()  # only when no other stack is left


def collect_garbage() -> None:
    """As root: delete the data of stacks whose checkout or state folder is gone, and end their Postgres."""
    if not as_root():
        return
    for folder in (root_home() / "data").glob("*"):
        try:
            owner = json.loads((folder / "owner.json").read_text())
            link = Path(owner["root"]) / ".stack" / owner["name"] / "data"
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half made by a start that is under way, or not ours: leave it
        if link.is_symlink() and link.readlink() == folder:
            continue
        running = with_working_directory(folder / "pgdata")
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)
        wait_gone(running, 10)
        shutil.rmtree(folder, ignore_errors=True)
