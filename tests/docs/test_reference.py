"""The reference of calls in sql/README.md is what the catalog says."""

from typing import Any

import psycopg
import pytest

from scripts.checks import reference
from scripts.local.stack.errors import StackError
from tests.support.pages import PAGES
from tests.support.stack import Database


def test_the_reference_is_what_the_catalog_says(db: "psycopg.Connection[Any]") -> None:
    said = reference.written(PAGES["sql/README.md"])
    assert said == reference.reference(db), "scripts/reference writes it anew"


def test_what_is_new_or_changed_is_told(scratch_db: Database) -> None:
    with scratch_db.connect() as owner:
        before = reference.reference(owner)
        owner.execute(
            "create function public.wish(what text, many integer default 1, at timestamptz default null) "
            "returns table (id bigint, granted boolean) language sql as 'select 1, true'"
        )
        owner.execute("comment on function public.wish is 'Operator: grants a wish | or two.'")
        after = reference.reference(owner)
        owner.execute("grant execute on function public.wish to authenticated")
        granted = reference.reference(owner)
    line = (
        "| `wish(what text, many integer = 1, at timestamptz = null)` | rows of `id`, `granted` "
        "| Grants a wish \\| or two. |\n"
    )
    assert line in after and after.replace(line, "") == before
    operators = after.index("### Calls of operators")
    assert after.index(line) > operators > granted.index(line)


def test_a_page_that_has_lost_its_place_is_refused() -> None:
    with pytest.raises(StackError, match="lost the lines"):
        reference.written("# A page\n")
