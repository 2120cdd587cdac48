"""From the latest release to what is here now, with users' data; and the frame, on a scratch release."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.checks import databases, make_migration, releases
from tests.support import upgrades
from tests.support.projects import Server, commit
from tests.support.stack import ROOT

# Tables and TABLE.COLUMNs that migrations since the latest release change on purpose, with the reason.
MEANT: dict[str, str] = {}

NEXT = "20990101000000_next.sql"
FORGET = "delete from supabase_migrations.schema_migrations where version = '20990101000000';\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with databases.postgres(ROOT) as postgres:
        yield Server(postgres)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The latest release; skips before the first, and where there is nothing new since."""
    try:
        tag = releases.latest(ROOT)
    except releases.UnknownError as why:
        pytest.skip(f"{why}")
    if tag is None:
        pytest.skip("nothing is released yet; the tests below do the same on a scratch release")
    known = releases.files(ROOT, tag)
    if all(str(path.relative_to(ROOT)) in known for path in make_migration.migration_files(ROOT)):
        pytest.skip(f"there is no migration since {tag}")
    return upgrades.check_out(ROOT, tag, tmp_path_factory.mktemp("release") / tag)


@pytest.mark.slow
def test_from_the_latest_release(server: Server, release: Path) -> None:
    assert upgrades.upgrade(server, release, ROOT, MEANT) == []


@pytest.mark.slow
def test_clients_and_functions_of_the_latest_release_still_work(release: Path) -> None:
    done = upgrades.run_clients(release, ROOT, upgrades.client_tests(release))
    assert done.returncode == 0, done.stdout[-5000:]


# -- the frame itself --------------------------------------------------------------------------------


def add(root: Path, up: str, down: str) -> None:
    """One more migration, and its way back."""
    (root / "supabase" / "migrations" / NEXT).write_text(up)
    (root / "supabase" / "rollbacks" / NEXT).write_text(f"begin;\n{down}{FORGET}commit;\n")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A repository with this project as v0.1.0, to which a test adds what comes next."""
    root = tmp_path / "next"
    root.mkdir()
    upgrades.copy(root)
    commit(root, "v0.1.0")
    upgrades.link(root)
    return root


@pytest.fixture
def old(scratch: Path, tmp_path: Path) -> Path:
    """The scratch release, checked out."""
    assert releases.latest(scratch) == "v0.1.0"
    return upgrades.check_out(scratch, "v0.1.0", tmp_path / "v0.1.0")


@pytest.mark.slow
def test_a_small_migration_goes_up_lives_on_and_comes_back(server: Server, scratch: Path, old: Path) -> None:
    add(
        scratch,
        "alter table public.credit_holds add column note text;\n",
        "alter table public.credit_holds drop column note;\n",
    )
    assert upgrades.upgrade(server, old, scratch, {}) == []
    assert not (old / "supabase" / "migrations" / NEXT).exists()


@pytest.mark.slow
def test_what_a_migration_spoils_is_found(server: Server, scratch: Path, old: Path) -> None:
    """Rows, columns, the ledger's own rules, and a way back that leaves something behind."""
    add(
        scratch,
        "update public.credit_accounts set lifetime_granted = lifetime_granted + 1;\n"
        "alter table credits.usage_logs drop column latency_ms cascade;\n"
        "create function credits.left_over() returns int language sql as 'select 1';\n",
        "update public.credit_accounts set lifetime_granted = lifetime_granted - 1;\n"
        "alter table credits.usage_logs add column latency_ms integer;\n",
    )
    findings = upgrades.upgrade(server, old, scratch, {"credits.usage_logs.latency_ms": "not needed"})
    for beginning in (
        "Up: public.credit_accounts: ",
        "Gone on by v0.1.0: ",
        "Gone on, checked by next: verify_ledger: ",
        "Back: the schema is not what it was: ",
        "Up again: ",
    ):
        assert any(line.startswith(beginning) for line in findings), (beginning, findings)
    assert not any(line.startswith("Up: credits.usage_logs") for line in findings), findings


@pytest.mark.slow
def test_what_a_client_of_the_old_release_misses_is_found(scratch: Path, old: Path) -> None:
    """quote_credits is gone, and the ledger still read: the tests of the release say both."""
    add(scratch, "drop function public.quote_credits(text, integer, jsonb, integer, boolean, integer);\n", "")
    path = "tests/local/stack/test_clients.py"
    assert path in upgrades.client_tests(old)
    assert all((old / test).is_file() for test in upgrades.client_tests(old))
    names = ("test_supabase_py_reads_its_own_ledger", "test_supabase_py_calls_an_rpc")
    done = upgrades.run_clients(old, scratch, [f"{path}::{name}" for name in names])
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{path}::{names[0]} PASSED" in done.stdout
    assert f"{path}::{names[1]} FAILED" in done.stdout
    assert "PGRST202" in done.stdout


def test_what_was_lost_is_told() -> None:
    before: upgrades.Rows = {"a": [{"id": 1, "x": 1}, {"id": 2, "x": 1}], "b": [{"id": 1}], "c": []}
    after: upgrades.Rows = {
        "a": [{"id": 1, "x": 1, "y": 0}, {"id": 2, "x": 2, "y": 0}, {"id": 3, "x": 1, "y": 0}]
    }
    assert upgrades.lost(before, before, {}) == []
    row = '{"id": 2, "x": 1}'
    assert upgrades.lost(before, after, {}) == [
        f"a: 1 rows are not as they were, such as {row}",
        "b is gone.",
    ]
    assert upgrades.lost(before, after, {"a.x": "", "b": ""}) == []
    assert upgrades.lost(before, {**after, "a": [{"id": 1}]}, {"b": ""}) == [
        "a.x is gone.",
        'a: 1 rows are not as they were, such as {"id": 2}',
    ]
