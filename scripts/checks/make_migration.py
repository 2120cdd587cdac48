"""scripts/migration: writes the next migration from the difference between supabase/migrations and sql/."""

import argparse
import re
import subprocess
import sys
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from textwrap import wrap

from scripts.local.stack.errors import StackError
from scripts.local.stack.processes import Interrupted, interruptible

from . import databases, releases

ROOT = Path(__file__).resolve().parents[2]

DESCRIPTION = """\
Writes the next migration: what takes a database made by supabase/migrations to the one that sql/ describes.
Edit sql/, run this, read and tidy what it wrote, write supabase/rollbacks/VERSION_NAME.sql beside it.
"""

# A migration that waits for a lock makes everybody queue behind it, sign-ups included. Better it fails.
LOCK_TIMEOUT = "set local lock_timeout = '10s';\n"

FIRST = """\
-- The ledger: all of sql/ in load order (supabase/config.toml, schema_paths). Written by scripts/migration.
--
-- One file, so that a database has all of it or nothing: each migration is a transaction of its own. How the
-- parts work together is in sql/README.md. Each file begins with a line such as "-- sql/base/now.sql".
--
"""
NEXT = """\
-- {name}: written by scripts/migration, from the difference between the migrations so far and sql/.
-- Not in it, because no diff sees them: rows and settings of roles. A rename looks like drop and create.

"""

# What to think about before a statement is let loose on a table full of money. The first that matches counts.
HINTS = [
    (
        r"drop (table|schema|materialized view|sequence)\b",
        "loses data; is it a rename? Then write the rename.",
    ),
    (r"alter table .*\bdrop column\b", "loses data; is it a rename? Then write the rename."),
    (r"alter type .*\badd value\b", "the value cannot be used before this migration is committed."),
    (
        r"alter type .*\brename to\b|__pgdelta_replaced",
        "makes an enum anew and rewrites the tables that use it.",
    ),
    (r"alter table .*\balter column .*\btype\b", "rewrites the table while nobody can read it."),
    (
        r"alter table .*\badd column .*\bnot null\b(?!.*\bdefault\b)",
        "fails on a table with rows: give it a default.",
    ),
    (r"alter table .*\bset not null\b", "reads the whole table, locked; fails if there is a null."),
    (
        r"alter table .*\badd constraint\b(?!.*\bnot valid\b)",
        "reads the whole table, locked: on a large one `not valid` now, `validate constraint` next.",
    ),
    (r"create (unique )?index\b(?! concurrently)", "nobody can write to the table meanwhile."),
    (
        r"drop trigger .*\bon auth\.",
        "outside a hosted project only the owner may: drop the function with cascade instead.",
    ),
    (r"drop (function|view|type|domain|policy|trigger)\b", "is anything of the app's own using it?"),
]


def tokens(sql: str) -> list[str]:
    """The text cut into strings, quoted names, dollar-quoted bodies, comments, semicolons and the rest."""
    pattern = r"(?s)(\$(\w*)\$.*?\$\2\$|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|;)"
    parts, end = [], 0
    for match in re.finditer(pattern, sql):
        parts += [sql[end : match.start()], match.group(1)]
        end = match.end()
    return [part for part in [*parts, sql[end:]] if part]


def statements(sql: str) -> list[str]:
    """The statements of an SQL text, each with its semicolon."""
    found, current = [], ""
    for part in tokens(sql):
        current += part
        if part == ";":
            found.append(current.strip())
            current = ""
    return [*found, current.strip()] if current.strip() else found


def outline(statement: str) -> str:
    """A statement in one line of lower case, without strings, bodies, comments and quotes: for matching."""
    kept = [part.strip('"') if part[0] == '"' else part for part in tokens(statement) if part[0] not in "$'"]
    return " ".join("".join(part for part in kept if not part.startswith(("--", "/*"))).lower().split())


def is_noise(statement: str) -> bool:
    """Whether a statement of the diff says what is so anyway: the owner's own rights."""
    return bool(re.fullmatch(r"(revoke all|grant [a-z, ]+) on .* (from|to) postgres;", outline(statement)))


def tidy(sql: str) -> str:
    """The diff's SQL with hints for the reader, the noise left out."""
    written = []
    for statement in statements(sql):
        if is_noise(statement):
            continue
        line = outline(statement)
        hint = next((f"-- review: {text}\n" for pattern, text in HINTS if re.match(pattern, line)), "")
        written.append(f"{hint}{statement}")
    return "\n\n".join(written) + "\n"


def formatted(root: Path, text: str) -> str:
    """The text as sqlfluff formats it; as it is when sqlfluff cannot."""
    done = subprocess.run(
        [sys.executable, "-m", "sqlfluff", "fix", "--config", str(root / "pyproject.toml"), "-"],
        input=text, capture_output=True, text=True, check=False, cwd=root,
    )  # fmt: skip
    return done.stdout if done.stdout.strip() and "unparsable" not in done.stderr.lower() else text


def migration_files(root: Path) -> list[Path]:
    """The migrations, oldest first."""
    return sorted((root / "supabase" / "migrations").glob("[0-9]*_*.sql"))


def next_version(root: Path) -> str:
    """Now, UTC, as the CLI writes it; later than every migration that is there."""
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    last = max((path.name.split("_")[0] for path in migration_files(root)), default="0")
    return max(now, str(int(last) + 1))


def contents(root: Path) -> str:
    """What is in the first migration, folder by folder, as comments."""
    listed = {
        (root / "supabase" / name).resolve() for name in databases.schema_paths(root) if "*" not in name
    }
    parts = (
        (
            "Types, tables and views, and what they need:",
            [p for p in databases.schema_files(root) if p in listed],
        ),
        ("Functions, with their triggers:", [p for p in databases.schema_files(root) if p not in listed]),
    )
    lines = []
    for title, files in parts:
        lines.append(title)
        for folder, group in groupby(files, lambda path: path.parent):
            text = f"{folder.relative_to(root.resolve())}: {', '.join(path.stem for path in group)}"
            lines += wrap(text, 113, initial_indent="  ", subsequent_indent="    ")
    return "".join(f"-- {line}\n" for line in lines)


def whole(root: Path) -> str:
    """The first migration: sql/ in load order."""
    parts = [FIRST + contents(root) + "\n" + LOCK_TIMEOUT + databases.BODIES_LATER]
    parts += [f"-- {path.relative_to(root)}\n{path.read_text()}" for path in databases.schema_files(root)]
    return "\n".join(parts)


def difference(root: Path, name: str) -> str | None:
    """What the next migration says; None when there is nothing to say."""
    with databases.postgres(root) as server:
        old = databases.database_from_migrations(root, server)
        new = databases.database_from_sql(root, server)
        changes = databases.diff(root, old, new)
    if not changes:
        return None
    return NEXT.format(name=name) + LOCK_TIMEOUT + "\n" + formatted(root, tidy(changes))


def rewritable(root: Path, name: str) -> Path:
    """The first migration, if it may be written anew: it is the only one, and nobody has it yet."""
    files = migration_files(root)
    if not files or files[0].stem.split("_", 1)[1] != name:
        raise StackError(
            f"There is no first migration named {name} in supabase/migrations; nothing was written."
        )
    if len(files) > 1:
        raise StackError(
            f"{files[1].name} builds on {files[0].name}, which therefore stays; make a new migration."
        )
    try:
        for tag in releases.tags(root):
            if str(files[0].relative_to(root)) in releases.files(root, tag):
                raise StackError(
                    f"{tag} is released with {files[0].name}, which therefore stays; make a new migration."
                )
    except releases.UnknownError as why:
        raise StackError(f"{why} Nothing was written.") from None
    return files[0]


def run(root: Path, name: str, rewrite: bool) -> str:
    """Do it; returns what to tell."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise StackError(
            f"{name!r} is not a name for a migration: use up to 63 of a-z, 0-9 and _, a letter first, "
            "such as add_teams."
        )
    if rewrite:
        target = rewritable(root, name)
        target.write_text(whole(root))
        return f"Wrote {target.relative_to(root)} anew from sql/."
    if any(path.stem.split("_", 1)[1] == name for path in migration_files(root)):
        raise StackError(f"There is a migration named {name} already; choose another name.")
    target = root / "supabase" / "migrations" / f"{next_version(root)}_{name}.sql"
    text = difference(root, name) if migration_files(root) else whole(root)
    if text is None:
        return "No difference: the migrations make the database that sql/ describes. Nothing was written."
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    back = root / "supabase" / "rollbacks" / target.name
    return (
        f"Wrote {target.relative_to(root)}. Read it, tidy it, and write {back.relative_to(root)}, "
        "which takes it back."
    )


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status. An error is one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="scripts/migration",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="what it does, such as add_teams")
    parser.add_argument(
        "--rewrite",
        action="store_true",
        help="write the first migration anew from sql/; only while no release is tagged",
    )
    arguments = parser.parse_args(argv)
    try:
        with interruptible():
            print(run(ROOT, arguments.name, arguments.rewrite))
    except StackError as error:
        print(f"scripts/migration: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupt:
        return 128 + interrupt.signum
    return 0


if __name__ == "__main__":
    sys.exit(main())
