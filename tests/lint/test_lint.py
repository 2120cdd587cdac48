"""scripts/lint: what it says, and that this project passes the checks that need no database."""

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts.checks import imports, lint, objects
from tests.support.projects import Run, commit
from tests.support.stack import ROOT


@pytest.mark.parametrize("check", lint.QUICK)
def test_the_project_passes(check: str) -> None:
    with ExitStack() as resources:
        try:
            assert lint.QUICK[check](lint.Context(ROOT, resources)) == []
        except lint.SkippedError as why:
            pytest.skip(f"{why}")


def test_the_database_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """The checks of the database itself, the drift aside, which tests/migrations looks at more closely."""
    failed = lint.run(ROOT, ["grants", "advisors", "plpgsql-check"])
    said = capsys.readouterr().out
    assert failed == 0, said
    assert "ok    grants" in said
    assert "ok    advisors" in said


BROKEN = {
    "ruff": ("scripts/checks/broken.py", '"""A module."""\n\nimport os\n'),
    "ruff-format": ("scripts/checks/broken.py", '"""A module."""\n\nx = {  "a":1 }\n'),
    "mypy": ("scripts/checks/broken.py", '"""A module."""\n\nnumber: int = "word"\n'),
    "tsc": ("functions/dashboard/client/broken.js", "export const broken = 1 + {};\nbroken.no();\n"),
    "biome": ("functions/dashboard/client/broken.js", "export  let broken = 1\n"),
    "built": ("functions/dashboard/static/broken.js", "export {};\n"),
    "sqlfluff": ("sql/base/broken.sql", "SELECT a.id from public.credit_accounts a;\n"),
    "squawk": ("supabase/migrations/20990101000000_broken.sql", "alter table public.t drop column c;\n"),
    "load-order": ("sql/broken.sql", "select 1;\n"),
    "rollbacks": ("supabase/migrations/20990101000000_broken.sql", "select 1;\n"),
    "released": ("supabase/migrations/20200101000000_broken.sql", "select 2;\n"),
    "verify-jwt": ("functions/broken/index.py", "app = None\n"),
    "test-imports": ("tests/test_broken.py", "from tests.conftest import Env\n"),
}  # fmt: skip


@pytest.mark.parametrize("check", lint.QUICK)
def test_a_mistake_is_found(tmp_path: Path, check: str) -> None:
    """In a project of just one file, which is wrong."""
    path, text = BROKEN[check]
    for folder in ("scripts/checks", "tests", "functions/_shared", "sql/base", "supabase/migrations"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("pyproject.toml", ".squawk.toml", "supabase/config.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for package in ("tests", "functions/_shared"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "supabase" / "seed.sql").touch()
    if check in ("tsc", "biome", "built"):
        shutil.copytree(ROOT / "functions" / "dashboard", tmp_path / "functions" / "dashboard")
        (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    released = tmp_path / BROKEN["released"][0]
    released.write_text("select 1;\n")
    commit(tmp_path, "v0.1.0")
    released.unlink()
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(text)
    with ExitStack() as resources:
        findings = lint.QUICK[check](lint.Context(tmp_path, resources))
    assert any("broken" in line for line in findings), findings


def test_a_mistake_in_a_function_is_found_and_named(tmp_path: Path) -> None:
    """Whatever the function is called, and beside another one with a file of the same name."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for folder in ("scripts", "tests", "functions/_shared"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").touch()
    for name, value in (("good", "1"), ("not-good", '"word"')):
        path = tmp_path / "functions" / name / "index.py"
        path.parent.mkdir()
        path.write_text(f'"""A function."""\n\nimport _shared\n\nnumber: int = {value}\n')
    with ExitStack() as resources:
        findings = lint.mypy(lint.Context(tmp_path, resources))
    assert len(findings) == 1, findings
    assert findings[0].startswith("functions/not-good/index.py:5: error: Incompatible types")


@pytest.mark.parametrize("name", ["generate", "checkout", "billing-portal"])
def test_a_function_that_lets_everybody_in_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "supabase").mkdir()
    config = (ROOT / "supabase" / "config.toml").read_text()
    section = f"[functions.{name}]\nverify_jwt = "
    assert f"{section}true" in config
    for path in ROOT.glob("functions/*/index.py"):
        (tmp_path / "functions" / path.parent.name).mkdir(parents=True)
        (tmp_path / "functions" / path.parent.name / "index.py").touch()
    for said, findings in (
        (f"{section}true", []),
        (f"{section}false", [f"[functions.{name}] must say verify_jwt = true."]),
        (f"[functions.{name}]", [f"[functions.{name}] must say verify_jwt = true."]),
    ):
        (tmp_path / "supabase" / "config.toml").write_text(config.replace(f"{section}true", said))
        with ExitStack() as resources:
            assert lint.verify_jwt(lint.Context(tmp_path, resources)) == findings


@pytest.mark.parametrize(
    ("files", "findings"),
    [
        ({"ledger/test_a.py": "from tests.support.clock import DAY\nfrom tests.support import clock\n"}, 0),
        ({"ledger/test_a.py": "from tests.ledger import model\n", "ledger/model.py": ""}, 0),
        ({"ledger/test_a.py": "from tests.ledger.test_b import buyer\n"}, 1),
        ({"ledger/test_a.py": "from .test_b import buyer\n"}, 1),
        ({"ledger/test_a.py": "from . import test_b\n", "ledger/test_b.py": ""}, 1),
        ({"ledger/test_a.py": "from .conftest import Api\n"}, 1),
        ({"ledger/test_a.py": "import tests.security.conftest\n"}, 1),
        ({"ledger/conftest.py": "from ..conftest import Env\n"}, 1),
        ({"support/ledger.py": "def f():\n    from tests.conftest import Env\n"}, 1),
        ({f"ledger/test_{name}.py": "from . import model\n" for name in "ab"} | {"ledger/model.py": ""}, 1),
        ({"support/ledger.py": "@pytest.fixture(scope='session')\ndef ledger() -> None: ...\n"}, 1),
    ],
)  # fmt: skip
def test_what_several_tests_use_lies_in_support(tmp_path: Path, files: dict[str, str], findings: int) -> None:
    for name, text in files.items():
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).write_text(text)
    found = imports.between_tests(tmp_path)
    assert len(found) == findings, found
    assert all("move " in sentence and sentence.endswith(".") for sentence in found)


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("made", "create function credits.made() returns int language sql as 'select 1';", ""),
        ("made", "-- create table credits.made ();\ncreate or replace function credits.made() as $$ $$;", ""),
        ("made", "create table credits.made (id int);", "made.sql creates a table: list it in schema_paths"),
        ("made", "create view credits.made as select 1;", "made.sql creates a view: list it in schema_paths"),
        ("made", "create type credits.made as enum ('a');", "creates a type: list it in schema_paths"),
        ("made", "insert into credits.secrets default values;", "made.sql creates no function: list it in"),
        (
            "other",
            "create function credits.made() returns int language sql as 'select 1';",
            "other.sql creates credits.made: give that a file of its own, made.sql,",
        ),
        (
            "made",
            "create function credits.made() as $$ $$; create function public.more() as $$ $$;",
            "made.sql creates public.more: give that a file of its own, more.sql,",
        ),
        (
            "now",
            "create function credits.now() returns timestamptz language sql as 'select now()';",
            "credits.now is created in sql/base/now.sql and in sql/usage/now.sql: delete one of them.",
        ),
        ("usage_logs", "create view public.usage_logs as select 1;", "public.usage_logs is created in"),
    ],
)
def test_a_file_and_its_object_belong_together(tmp_path: Path, name: str, text: str, finding: str) -> None:
    (tmp_path / "supabase").mkdir()
    shutil.copy(ROOT / "supabase" / "config.toml", tmp_path / "supabase" / "config.toml")
    shutil.copytree(ROOT / "sql", tmp_path / "sql")
    assert objects.misplaced(tmp_path) == []
    assert len([path for path in (ROOT / "sql").rglob("*.sql") if objects.defined(path)]) > 200
    path = tmp_path / "sql" / "usage" / f"{name}.sql"
    path.write_text((path.read_text() if path.exists() else "") + text + "\n")
    findings = objects.misplaced(tmp_path)
    assert [finding in line for line in findings] == ([True] if finding else []), findings


def test_a_rollback_that_does_not_fit_its_functions_is_found() -> None:
    (path,) = (ROOT / "supabase" / "rollbacks").glob("*_credits.sql")
    good = path.read_text()
    assert lint.undropped(good) == []
    changed = good.replace("public.my_generation(uuid)", "public.my_generation(text)")
    assert lint.undropped(changed) == [
        "The rollback does not drop function public.my_generation(uuid).",
        "The rollback drops function public.my_generation(text), which is not in grants.toml.",
    ]


def test_one_that_fails_makes_the_exit_status(project: Path, script: Run) -> None:
    path, text = BROKEN["squawk"]
    (project / path).write_text(text)
    done = script("lint", "squawk", "load-order")
    assert done.returncode == 1
    first, *findings, last, summary = done.stdout.splitlines()
    assert first.startswith("FAIL  squawk ")
    assert any("ban-drop-column" in line for line in findings), findings
    assert last.startswith("ok    load-order ")
    assert summary == "2 checks: 1 passed, 1 failed, 0 skipped."


def test_an_unknown_check_is_named(script: Run) -> None:
    done = script("lint", "spelling")
    assert (done.returncode, "there is no check spelling" in done.stderr) == (2, True)


def advice(name: str, table: str) -> dict[str, object]:
    return {
        "name": name, "level": "WARN", "detail": "It is so.", "remediation": "https://example.com",
        "metadata": {"schema": "credits", "name": table},
    }  # fmt: skip


def test_advice_is_accepted_by_name_and_object_and_only_while_it_is_needed() -> None:
    entries = [
        {"name": "slow", "objects": ["credits.a"], "reason": "r"},
        {"name": "unused", "objects": ["*"], "reason": "r"},
    ]
    results = [advice("slow", "a"), advice("slow", "b"), advice("unused", "b"), advice("new", "a")]
    assert lint.advice(results, entries) == [
        "WARN slow: It is so. https://example.com",
        "WARN new: It is so. https://example.com",
    ]
    assert lint.advice([], entries) == [
        "accepted.toml accepts slow of credits.a, which is found no more: take it out.",
        "accepted.toml accepts unused of *, which is found no more: take it out.",
    ]


def test_findings_of_plpgsql_check_likewise() -> None:
    entries = [{"function": "credits.f", "message": 'never read variable "x"', "reason": "r"}]
    issue = {"level": "error", "message": "no such column", "statement": {"lineNumber": "3"}}
    known = {"level": "warning extra", "message": 'never read variable "x"'}
    results = [{"function": "credits.f", "issues": [known, issue]}]
    assert lint.plpgsql_findings(results, entries) == ["credits.f line 3: error: no such column"]
    assert lint.plpgsql_findings([], entries) == [
        "accepted.toml accepts 'never read variable \"x\"' of credits.f, which is found no more: take it out."
    ]


def test_every_acceptance_gives_a_reason() -> None:
    for section in ("advisors", "plpgsql_check"):
        entries = lint.accepted(section)
        assert entries
        assert all(len(entry["reason"]) > 20 for entry in entries)


def test_help_lists_every_check() -> None:
    done = subprocess.run([ROOT / "scripts" / "lint", "--help"], capture_output=True, text=True, check=True)
    for name in lint.CHECKS:
        assert f"  {name} " in done.stdout
