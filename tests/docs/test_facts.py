"""Lists on the pages that are lists somewhere else as well: settings, variables, events, options, tables."""

import re
from fnmatch import fnmatch
from typing import Any

import psycopg

from _shared.generation.providers import provider
from _shared.payments.event_types import EVENT_TYPES
from tests.support.pages import PAGES, ROOT, fences
from tests.support.stack import Database

FUNCTIONS = PAGES["functions/README.md"]


def table(page: str, first: str) -> list[list[str]]:
    """The rows of the table whose first heading that is."""
    rows = page[page.index(f"\n| {first} |") :].split("\n\n")[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_every_setting_is_there_with_its_default(scratch_db: Database) -> None:
    said: dict[str, str] = {}
    for names, defaults, *_ in table(PAGES["supabase/README.md"], "setting"):
        said |= dict(zip(re.findall(r"`(\w+)`", names), defaults.split(", "), strict=True))
    with scratch_db.connect() as owner:
        row = owner.execute("select to_jsonb(s) - 'id' from credits.billing_settings as s").fetchone()
        assert row
        settings = row[0]

        def is_so(name: str, value: Any) -> bool:
            match value:
                case None | bool():
                    return said[name] == {None: "null", True: "true", False: "false"}[value]
                case int():
                    return said[name] == f"{value:,}"
            if said[name] == f"`{value}`":
                return True
            row = owner.execute("select %s::interval = %s::interval", [said[name], value]).fetchone()
            return row == (True,)

        assert said.keys() == settings.keys()
        assert [name for name, value in settings.items() if not is_so(name, value)] == []


def test_every_variable_is_there() -> None:
    source = (ROOT / "functions" / "_shared" / "settings.py").read_text()
    variables = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', source))
    adapters = {path.stem for path in (ROOT / "functions/_shared/generation/providers").glob("[a-z]*.py")}
    variables |= {f"{provider(name).env}_API_KEY" for name in adapters - {"protocol"}}
    assert {"STRIPE_SECRET_KEY", "GENERATION_URL_SECONDS", "OPENAI_API_KEY"} < variables
    assert [name for name in sorted(variables) if f"`{name}`" not in FUNCTIONS] == []


def test_every_event_is_in_the_list_and_in_the_table() -> None:
    (listed,) = (fence.text for fence in fences() if "checkout.session.completed" in fence.text)
    assert sorted(listed.split()) == sorted(EVENT_TYPES)
    patterns = [
        pattern for row in table(FUNCTIONS, "event") for pattern in re.findall(r"`([\w.]+(?:\.\*)?)`", row[0])
    ]
    assert [event for event in EVENT_TYPES if not any(fnmatch(event, pattern) for pattern in patterns)] == []
    assert [
        pattern for pattern in patterns if not any(fnmatch(event, pattern) for event in EVENT_TYPES)
    ] == []


def test_every_option_of_an_operation_is_there(scratch_db: Database) -> None:
    with scratch_db.connect() as owner:
        owner.execute((ROOT / "supabase" / "seed.sql").read_bytes())
        prices = owner.execute("select operation, terms -> 'options' from public.pricing_tiers").fetchall()
    said: dict[str, set[str]] = {}
    for operations, *_, options in table(FUNCTIONS, "operation"):
        for operation in re.findall(r"`(\w+)`", operations):
            said[operation] = set(re.findall(r"`(\w+)`", options)) - {"mask"}
    assert {operation: set(options or ()) for operation, options in prices} == said


def test_every_table_and_view_is_in_the_data_model(db: "psycopg.Connection[Any]") -> None:
    page = PAGES["sql/README.md"]
    model = page[page.index("## Data model") : page.index("## The rules")]
    names = db.execute(
        "select case n.nspname when 'public' then '' else 'credits.' end || c.relname from pg_class as c "
        "inner join pg_namespace as n on c.relnamespace = n.oid "
        "where n.nspname in ('public', 'credits') and c.relkind in ('r', 'v')"
    ).fetchall()
    assert len(names) > 30
    assert [name for (name,) in names if f"`{name}`" not in model] == []
