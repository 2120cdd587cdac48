"""The cluster that tests start from is never an old one, and never half a one."""

from pathlib import Path

import pytest

from scripts.local.stack.paths import Paths
from scripts.local.stack.postgres import binaries
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
    another.symlink_to(binaries())
    monkeypatch.setenv("PGBIN", str(another))
    keys.append(prepared.key(project))
    assert len(set(keys)) == len(keys)


def test_half_a_one_is_made_anew_and_an_old_one_deleted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[tuple[str, str]] = []

    class Server:
        """Notes what happens to it, with the name of its cluster."""

        def __init__(self, paths: Paths) -> None:
            for step in ("create", "start", "stop"):
                setattr(self, step, lambda step=step: did.append((step, paths.name)))

    def fill(*_: object) -> None:
        did.append(("fill", name))
        if interrupted:
            raise KeyboardInterrupt

    monkeypatch.setattr(prepared, "_postgres", Server)
    monkeypatch.setattr(prepared, "_fill", fill)
    name, interrupted = f"prepared-{prepared.key(project)}", True
    with pytest.raises(KeyboardInterrupt):
        prepared._made(project)
    made = [("create", name), ("start", name), ("fill", name), ("stop", name)]
    assert did == made
    interrupted = False
    assert prepared._made(project).name == prepared._made(project).name == name
    assert did == [*made, ("stop", name), *made]  # whatever still ran was stopped
    change(project / "supabase" / "seed.sql")
    assert prepared._made(project).name == f"prepared-{prepared.key(project)}" != name
    assert not Paths(project, name).state.exists() and not Paths(project, name).data.exists()
