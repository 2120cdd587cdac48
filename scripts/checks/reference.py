"""scripts/reference: writes the reference of calls and tables in sql/README.md from the catalog."""

import re
import sys
from pathlib import Path
from typing import Any

import psycopg

from scripts.local.stack.errors import StackError
from scripts.local.stack.processes import Interrupted, interruptible

from . import databases

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path("sql") / "README.md"
BEGIN = "<!-- From here to the next such line: written by scripts/reference. -->\n"
END = "<!-- scripts/reference -->\n"

# Who may call it, by its grants; of service_role's, those that an operator calls say so in their comment.
CALLS = """
    select
        case
            when has_function_privilege('authenticated', p.oid, 'execute') then 'users'
            when obj_description(p.oid, 'pg_proc') like 'Operator: %' then 'operators'
            else 'functions'
        end,
        p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
        obj_description(p.oid, 'pg_proc')
    from pg_proc as p
    where p.pronamespace = 'public'::regnamespace
    order by p.proname
"""
RELATIONS = """
    select
        c.relname,
        array_to_string(array(
            select r.who
            from unnest(array['anon', 'authenticated', 'service_role']) as r (who)
            where has_any_column_privilege(r.who, c.oid, 'select')
        ), ', '),
        obj_description(c.oid, 'pg_class')
    from pg_class as c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')
    order by c.relname
"""
HEADINGS = {
    "users": "### Calls of users\n\nWith a signed-in user's access token (`authenticated`), for that user.\n",
    "operators": "### Calls of operators\n\nWith the secret key (`service_role`).\n",
    "functions": "### Calls of the functions\n\nWith the secret key (`service_role`), by `functions/`.\n",
}


def _plain(declaration: str) -> str:
    """Arguments or a result as people write them."""
    text = declaration.replace("timestamp with time zone", "timestamptz")
    text = re.sub(r" DEFAULT ", " = ", text)
    text = re.sub(r"('[^']*')::[\w ]+(\[\])?", r"\1", text)
    return re.sub(r"NULL::[\w ]+(\[\])?", "null", text)


def _result(declaration: str) -> str:
    """What it returns: a type, or the names of a table's columns."""
    columns = re.fullmatch(r"TABLE\((.*)\)", declaration)
    if columns:
        return "rows of " + ", ".join(f"`{column.split()[0]}`" for column in columns[1].split(", "))
    return f"`{_plain(declaration)}`"


def _cell(comment: str) -> str:
    """A comment as a cell of a table."""
    text = comment.removeprefix("Operator: ")
    return (text[0].upper() + text[1:]).replace("|", "\\|")


def reference(connection: psycopg.Connection[Any]) -> str:
    """The reference of the database, as Markdown."""
    calls = connection.execute(CALLS).fetchall()
    parts = []
    for group, heading in HEADINGS.items():
        rows = [
            f"| `{name}({_plain(arguments)})` | {_result(result)} | {_cell(comment)} |\n"
            for who, name, arguments, result, comment in calls
            if who == group
        ]
        parts.append(f"{heading}\n| call | returns | |\n|---|---|---|\n{''.join(rows)}")
    rows = [
        f"| `{name}` | {readers} | {_cell(comment)} |\n"
        for name, readers, comment in connection.execute(RELATIONS).fetchall()
    ]
    parts.append(
        "### Tables and views that clients read\n\nRow level security shows users their own rows.\n\n"
        f"| table or view | who reads it | |\n|---|---|---|\n{''.join(rows)}"
    )
    return "\n".join(parts)


def written(page: str) -> str:
    """The reference that the page has."""
    found = re.search(re.escape(BEGIN) + r"\n(.*?)\n" + re.escape(END), page, re.DOTALL)
    if not found:
        raise StackError(f"{PAGE} has lost the lines between which the reference stands.")
    return found[1]


def main() -> int:
    """Write it. Returns the exit status."""
    try:
        with (
            interruptible(),
            databases.postgres(ROOT) as server,
            psycopg.connect(databases.database_from_sql(ROOT, server)) as connection,
        ):
            text = reference(connection)
        page = (ROOT / PAGE).read_text()
        (ROOT / PAGE).write_text(page.replace(written(page), text))
    except StackError as error:
        print(f"scripts/reference: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupt:
        return 128 + interrupt.signum
    print(f"Wrote the reference of calls and tables in {PAGE}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
