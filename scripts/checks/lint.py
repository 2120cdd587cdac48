"""scripts/lint: every check that reads code or a database just made, one line each."""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.local.stack import migrations
from scripts.local.stack.errors import StackError
from scripts.local.stack.postgres import Postgres, major_version
from scripts.local.stack.processes import Interrupted, interruptible

from . import catalog, databases, imports, make_migration, objects, releases

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED = Path(__file__).with_name("accepted.toml")

DESCRIPTION = """\
Runs the checks below, or those that are named, and prints a line for each. Exit status 1 when one fails.
A check that cannot run on this machine is skipped and says why.
"""


class SkippedError(Exception):
    """The check cannot run here; the message says why."""


@dataclass
class Context:
    """What checks share: the project, and a Postgres that starts when the first of them asks for it."""

    root: Path
    resources: ExitStack
    server: Postgres | None = None
    migrated: str = ""

    def postgres(self) -> Postgres:
        """The server, with one database made from the migrations, whose URL is in `migrated`."""
        if self.server is None:
            server = self.resources.enter_context(databases.postgres(self.root))
            self.migrated = databases.database_from_migrations(self.root, server)
            self.server = server
        return self.server


def tool(context: Context, *command: str) -> list[str]:
    """Run a program of the Python environment; its output is the findings when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=context.root, capture_output=True, text=True, check=False
    )  # fmt: skip
    return (
        []
        if done.returncode == 0
        else (done.stdout + done.stderr).strip().splitlines() or ["failed, and said nothing"]
    )


def ruff(context: Context) -> list[str]:
    """Python: likely mistakes, docstrings, annotations (rules: pyproject.toml)."""
    return tool(context, "ruff", "check", "--output-format", "concise", ".")


def ruff_format(context: Context) -> list[str]:
    """Python: layout."""
    return tool(context, "ruff", "format", "--check", "--output-format", "concise", ".")


def mypy(context: Context) -> list[str]:
    """Python: types, strict (files: pyproject.toml; and each function, whose name is no package's)."""
    config = tomllib.loads((context.root / "pyproject.toml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        # Under names that a package can have, all are checked at once.
        named = {
            path: Path(folder) / f"function_{path.parent.name.replace('-', '_')}.py"
            for path in sorted(context.root.glob("functions/*/index.py"))
        }
        for path, copy in named.items():
            shutil.copy(path, copy)
        files = [*config["tool"]["mypy"]["files"], *map(str, named.values())]
        findings = tool(context, "mypy", "--no-error-summary", *files)
    for path, copy in named.items():
        findings = [line.replace(str(copy), str(path.relative_to(context.root))) for line in findings]
    return findings


def elements(root: Path) -> Path:
    """The folder of the elements; SkippedError where it, or what builds it, is not there."""
    folder = root / "functions" / "dashboard"
    if not folder.is_dir():
        raise SkippedError("there is no functions/dashboard")
    if not (root / "node_modules" / "esbuild").is_dir():
        raise SkippedError("needs `scripts/setup --tests`")
    return folder


def node(folder: Path, *command: str) -> list[str]:
    """Run a program of node_modules in a folder; its output is the findings when it fails."""
    program = folder.parents[1] / "node_modules" / ".bin" / command[0]
    done = subprocess.run(
        [str(program), *command[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    return [] if done.returncode == 0 else (done.stdout + done.stderr).strip().splitlines() or ["failed"]


def tsc(context: Context) -> list[str]:
    """JavaScript of the elements: types, strict (functions/dashboard/tsconfig.json)."""
    return node(elements(context.root), "tsc", "--noEmit")


def biome(context: Context) -> list[str]:
    """JavaScript of the elements: likely mistakes and layout (functions/dashboard/biome.json)."""
    return node(elements(context.root), "biome", "ci", "--colors=off", ".")


def built(context: Context) -> list[str]:
    """functions/dashboard/static is what its build.mjs makes of client/."""
    folder = elements(context.root)
    with tempfile.TemporaryDirectory() as made:
        done = subprocess.run(
            ["node", "build.mjs", made], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            return (done.stdout + done.stderr).strip().splitlines() or ["build.mjs failed"]
        fresh, there = contents(Path(made)), contents(folder / "static")
    return [
        f"static/{name} is not what client/ makes: run node functions/dashboard/build.mjs."
        for name in sorted(fresh.keys() | there.keys())
        if fresh.get(name) != there.get(name)
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def sql_files(root: Path) -> list[Path]:
    """What sqlfluff reads. Not the first migration, which is the files of sql/ one after the other."""
    supabase = root / "supabase"
    return [
        *sorted((root / "sql").rglob("*.sql")),
        *make_migration.migration_files(root)[1:],
        *sorted((supabase / "rollbacks").glob("*.sql")),
        supabase / "seed.sql",
    ]


def sqlfluff(context: Context) -> list[str]:
    """SQL: layout, names, case (rules and reasons: pyproject.toml)."""
    return tool(context, "sqlfluff", "lint", "--disable-progress-bar", *map(str, sql_files(context.root)))


def squawk(context: Context) -> list[str]:
    """Migrations: what would lock or break a database in use (rules and reasons: .squawk.toml)."""
    files = [str(path) for path in make_migration.migration_files(context.root)]
    program = Path(sys.executable).with_name("squawk")
    done = subprocess.run(
        [str(program), "--config", ".squawk.toml", "--reporter", "gcc", *files],
        cwd=context.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (
        [] if done.returncode == 0 else (done.stdout + done.stderr).strip().splitlines() or ["squawk failed"]
    )


def load_order(context: Context) -> list[str]:
    """sql/: schema_paths of supabase/config.toml load every file; each has one object, named as it is."""
    return unlisted(context.root) + objects.misplaced(context.root)


def unlisted(root: Path) -> list[str]:
    """Where the files below sql/ and schema_paths differ."""
    listed = databases.schema_paths(root)
    files = databases.schema_files(root)
    there = set((root.resolve() / "sql").rglob("*.sql"))
    findings = [
        f"{path.relative_to(root.resolve())} is not in schema_paths, nor where its patterns look: "
        "put it into a folder of its domain."
        for path in sorted(there - set(files))
    ]
    findings += [f"schema_paths lists {path}, which is not there." for path in files if path not in there]
    findings += [
        f"schema_paths lists {name} twice." for name in sorted({n for n in listed if listed.count(n) > 1})
    ]
    return findings


def rollbacks(context: Context) -> list[str]:
    """Migrations: each has its way back in supabase/rollbacks, the first for each function of public."""
    files = make_migration.migration_files(context.root)
    folder = context.root / "supabase" / "rollbacks"
    missing = [path.name for path in files if not (folder / path.name).exists()]
    findings = [f"supabase/rollbacks/{name} is missing." for name in missing]
    # Later migrations add and take away; of the first one alone it is known what it makes.
    return findings if missing or len(files) != 1 else undropped((folder / files[0].name).read_text())


def undropped(rollback: str) -> list[str]:
    """Which functions of public the rollback of the first migration does not drop, or drops in vain."""
    listed = catalog.allowlist()["functions"]
    there = {name.replace("timestamp with time zone", "timestamptz") for name in listed}
    there = {name.replace("public.", "", 1) for name in there if name.startswith("public.")}
    dropped = set(re.findall(r"(?m)^drop function public\.(.+);$", rollback))
    return [f"The rollback does not drop function public.{name}." for name in sorted(there - dropped)] + [
        f"The rollback drops function public.{name}, which is not in {catalog.ALLOWLIST.name}."
        for name in sorted(dropped - there)
    ]


def test_imports(context: Context) -> list[str]:
    """tests/: what several files use lies in tests/support, fixtures in conftest.py."""
    return imports.between_tests(context.root)


def released(context: Context) -> list[str]:
    """Migrations: those that a git tag contains stay as they are, rollbacks too; new ones come later."""
    try:
        return releases.broken(context.root)
    except releases.UnknownError as why:
        raise SkippedError(f"{why}") from None


# They know in another way who calls: by Stripe's signature, and by the secret key, which is no token.
# The dashboard's page is the same for everybody.
WITHOUT_TOKEN = ("dashboard", "stripe-reconcile", "stripe-webhook")


def verify_jwt(context: Context) -> list[str]:
    """supabase/config.toml: each function says verify_jwt, true but for those that take no token."""
    config = tomllib.loads((context.root / "supabase" / "config.toml").read_text())
    said = {name: section.get("verify_jwt") for name, section in config.get("functions", {}).items()}
    there = {path.parent.name for path in context.root.glob("functions/*/index.py")}
    findings = [
        f"[functions.{name}] has no functions/{name}/index.py." for name in sorted(said.keys() - there)
    ]
    return findings + [
        f"[functions.{name}] must say verify_jwt = {str(name not in WITHOUT_TOKEN).lower()}."
        for name in sorted(there)
        if said.get(name) is not (name not in WITHOUT_TOKEN)
    ]


def drift(context: Context) -> list[str]:
    """Database: sql/ and the migrations make the same one (`supabase db diff`)."""
    server = context.postgres()
    described = databases.database_from_sql(context.root, server)
    changes = databases.diff(context.root, context.migrated, described)
    return (
        ["The migrations lack (scripts/migration NAME writes it):", *changes.splitlines()] if changes else []
    )


def grants(context: Context) -> list[str]:
    """Database: grants equal grants.toml; row level security, policies, search_path, views, realtime."""
    server = context.postgres()
    with server.connect("from_migrations", "postgres") as connection:
        return catalog.check(connection)


def cli_json(context: Context, *arguments: str) -> dict[str, Any]:
    """What the Supabase CLI says about the migrated database, as JSON."""
    url = databases.without_tls(context.migrated)
    done = migrations.run_cli(context.root, *arguments, f"--remote={url}", "--output-format", "json")
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    answer: dict[str, Any] = json.loads(answers[-1]) if answers else {}
    if "results" not in answer:
        raise StackError(f"supabase {' '.join(arguments)} gave no results:\n{done.stdout.strip()}")
    return answer


def accepted(section: str) -> list[dict[str, Any]]:
    """A section of accepted.toml."""
    entries: list[dict[str, Any]] = tomllib.loads(ACCEPTED.read_text()).get(section, [])
    return entries


def advice(results: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The advisors' results that are not accepted, then the acceptances that nothing needs."""
    findings, used = [], set()
    for result in results:
        target = f"{result['metadata'].get('schema')}.{result['metadata'].get('name')}"
        for entry in entries:
            if entry["name"] == result["name"]:
                hit = next((name for name in entry["objects"] if name in ("*", target)), None)
                if hit:
                    used.add((entry["name"], hit))
                    break
        else:
            findings.append(f"{result['level']} {result['name']}: {result['detail']} {result['remediation']}")
    stale = [(entry["name"], name) for entry in entries for name in entry["objects"]]
    return findings + [
        f"{ACCEPTED.name} accepts {advised} of {name}, which is found no more: take it out."
        for advised, name in stale
        if (advised, name) not in used
    ]


def advisors(context: Context) -> list[str]:
    """Database: `supabase db advisors`, all levels (accepted, with reasons: scripts/checks/accepted.toml)."""
    context.postgres()
    return advice(cli_json(context, "db", "advisors", "--level", "info")["results"], accepted("advisors"))


def plpgsql_findings(results: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same for `supabase db lint`."""
    findings, used = [], []
    for result in results:
        for issue in result["issues"]:
            for entry in entries:
                if entry["function"] == result["function"] and issue["message"].startswith(entry["message"]):
                    used.append(entry)
                    break
            else:
                where = issue.get("statement", {}).get("lineNumber")
                line = f" line {where}" if where else ""
                findings.append(f"{result['function']}{line}: {issue['level']}: {issue['message']}")
    return findings + [
        f"{ACCEPTED.name} accepts {entry['message']!r} of {entry['function']}, which is found no more: "
        "take it out."
        for entry in entries
        if entry not in used
    ]


def plpgsql_check(context: Context) -> list[str]:
    """Database: `supabase db lint`, types and names in PL/pgSQL; needs the extension plpgsql_check."""
    server = context.postgres()
    with server.connect("from_migrations") as admin:
        there = admin.execute("select 1 from pg_available_extensions where name = 'plpgsql_check'").fetchone()
        if not there:
            raise SkippedError(
                f"this PostgreSQL {major_version()} lacks the extension plpgsql_check; on Debian: "
                "apt install postgresql-15-plpgsql-check, then PGBIN=/usr/lib/postgresql/15/bin scripts/lint"
            )
        # The CLI would make it itself, but only a superuser may.
        admin.execute("create extension if not exists plpgsql_check with schema extensions")
    results = cli_json(context, "db", "lint", "--schema", "public,credits", "--level", "warning")["results"]
    return plpgsql_findings(results or [], accepted("plpgsql_check"))


Check = Callable[[Context], list[str]]
QUICK: dict[str, Check] = {
    "ruff": ruff,
    "ruff-format": ruff_format,
    "mypy": mypy,
    "tsc": tsc,
    "biome": biome,
    "built": built,
    "sqlfluff": sqlfluff,
    "squawk": squawk,
    "load-order": load_order,
    "rollbacks": rollbacks,
    "released": released,
    "verify-jwt": verify_jwt,
    "test-imports": test_imports,
}
CHECKS: dict[str, Check] = {
    **QUICK,
    "drift": drift,
    "grants": grants,
    "advisors": advisors,
    "plpgsql-check": plpgsql_check,
}


def run(root: Path, names: Sequence[str]) -> int:
    """Run the named checks, print a line for each and a summary. Returns how many failed."""
    failed = skipped = 0
    with ExitStack() as resources:
        context = Context(root, resources)
        for name in names:
            began = time.monotonic()
            status, lines = "ok", []
            try:
                lines = CHECKS[name](context)
                status = "FAIL" if lines else "ok"
            except SkippedError as why:
                status, lines = "skip", [f"{why}"]
            except StackError as error:
                status, lines = "FAIL", str(error).splitlines()
            failed += status == "FAIL"
            skipped += status == "skip"
            print(f"{status:<4}  {name:<14}{time.monotonic() - began:6.1f} s", flush=True)
            for line in lines:
                print(f"      {line}", flush=True)
    words = [f"{len(names) - failed - skipped} passed", f"{failed} failed", f"{skipped} skipped"]
    print(f"{len(names)} checks: {', '.join(words)}.")
    return failed


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    listing = "\n".join(
        f"  {name:<14} {(check.__doc__ or '').splitlines()[0]}" for name, check in CHECKS.items()
    )
    parser = argparse.ArgumentParser(
        prog="scripts/lint",
        description=DESCRIPTION,
        epilog=f"checks:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="run these only (default: all)")
    parser.add_argument("--quick", action="store_true", help="run only the checks that need no database")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.checks if name not in CHECKS]
    if unknown:
        parser.error(f"there is no check {unknown[0]}; there are {', '.join(CHECKS)}")
    try:
        with interruptible():
            return 1 if run(ROOT, arguments.checks or list(QUICK if arguments.quick else CHECKS)) else 0
    except Interrupted as interrupt:
        return 128 + interrupt.signum


if __name__ == "__main__":
    sys.exit(main())
