"""The cluster that tests start from is never an old one, and never half a one."""

from pathlib import Path

import pytest

from scripts.local.stack.paths import Paths
from tests.support import prepared


def change(path: Path) -> None:
    path.write_text(f"{path.read_text()}\n")


def test_whatever_it_is_made_from_makes_another_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [prepared.key(project)]
    assert prepared.key(project) == keys[0]
    (migration,) = (project / "supabase" / "migrations").glob("*_credits.sql")
    for path in (
        migration,
        project / "supabase" / "seed.sql",
        project / "scripts" / "local" / "stack" / "postgres.py",
        project / "scripts" / "local" / "stack" / "sql" / "30_auth.sql",
        project / "package-lock.json",
    ):
        change(path)
        keys.append(prepared.key(project))
    migration.rename(migration.with_name("20990101000000_credits.sql"))
    keys.append(prepared.key(project))
    migration.write_text("select 1;\n")
    keys.append(prepared.key(project))
    another = project / "pgbin"
    another.symlink_to(prepared.binaries())
    monkeypatch.setenv("PGBIN", str(another))
    keys.append(prepared.key(project))
    assert len(set(keys)) == len(keys)


class Made:
    """Stands for the server: what happened to it, with the name of its cluster."""

    did: list[tuple[str, str]] = []

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def __getattr__(self, name: str) -> object:
        return lambda: self.did.append((name, self.paths.name))


def test_half_a_one_is_made_anew_and_an_old_one_deleted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_root: Path, server: Made) -> None:
        server.filled()
        if interrupted:
            raise KeyboardInterrupt

    monkeypatch.setattr(prepared, "_postgres", Made)
    monkeypatch.setattr(prepared, "_fill", fill)
    name, interrupted = f"prepared-{prepared.key(project)}", True
    with pytest.raises(KeyboardInterrupt):
        prepared._made(project)
    made = [("create", name), ("start", name), ("filled", name), ("stop", name)]
    assert Made.did == made
    interrupted = False
    assert prepared._made(project).name == prepared._made(project).name == name
    assert Made.did == [*made, ("stop", name), *made]  # whatever still ran was stopped
    change(project / "supabase" / "seed.sql")
    assert prepared._made(project).name == f"prepared-{prepared.key(project)}" != name
    assert not Paths(project, name).state.exists() and not Paths(project, name).data.exists()
