"""What errors of the API reveal: names of schema public, which sql/README.md lists, none of credits."""

import json
import re
from typing import Any

import psycopg
import pytest

from scripts.checks import catalog
from tests.support.rest import Caller

Connection = psycopg.Connection[Any]


def public(kind: str) -> set[str]:
    """Bare names of what grants.toml lists of schema public; test_catalog.py holds the catalog against it."""
    return {
        name.removeprefix("public.").partition("(")[0]
        for name in catalog.allowlist()[kind]
        if name.startswith("public.")
    }


# PostgREST suggests names that sound alike, whether or not the caller may use them. Only these may be
# suggested.
FUNCTIONS, RELATIONS = public("functions"), public("relations")
# Columns of these tables, with their table.
COLUMNS = {
    "credit_accounts.user_id", "credit_transactions.amount", "credit_transactions.actor",
    "credit_holds.amount",
    "pricing_tiers.operation", "pricing_tiers.model", "credit_packages.slug",
}  # fmt: skip


@pytest.fixture(params=["anon", "service_role"])
def caller(request: pytest.FixtureRequest, anon: Caller, operator: Caller) -> Caller:
    return anon if request.param == "anon" else operator


def near(name: str) -> list[str]:
    """Misspellings close enough for a suggestion."""
    return [name[:-1], f"{name}s", name.replace("_", "", 1), f"x{name}", name[: len(name) // 2]]


def objects(db: Connection, kind: str, schema: str) -> set[str]:
    """Bare names of the schema's objects."""
    return {
        name.removeprefix(f"{schema}.").partition("(")[0]
        for name in catalog.granted(db)[kind]
        if name.startswith(f"{schema}.")
    }


def revealed(answers: list[tuple[str, str]], names: set[str]) -> set[str]:
    """Which of the names stand in an error without having stood in its request."""
    found = set()
    for asked, text in answers:
        words = set(re.findall(r"\w+", text))
        found |= {name for name in names & words if name not in re.findall(r"\w+", asked)}
    return found


def test_errors_reveal_no_name_of_schema_credits(caller: Caller, db: Connection) -> None:
    """Words that are English as well, such as price, count only where they are quoted as a name."""
    answers = []
    for kind in ("functions", "relations"):
        for schema in ("public", "credits"):
            for name in sorted(objects(db, kind, schema)):
                guesses = [name, *near(name)] if schema == "credits" else near(name)
                # What public has by that name is public's to whoever asks.
                for guess in [guess for guess in guesses if guess not in FUNCTIONS | RELATIONS]:
                    path = f"rpc/{guess}" if kind == "functions" else guess
                    answer = caller.rpc(guess, x=1) if kind == "functions" else caller.get(guess)
                    assert answer.status_code == 404, path
                    answers.append((guess, answer.text))
                if kind == "relations":
                    for guess in near(name):
                        embedded = caller.get(f"pricing_tiers?select=*,{guess}(*)")
                        answers.append((guess, embedded.text))
    secret = (
        (objects(db, "functions", "credits") | objects(db, "relations", "credits")) - FUNCTIONS - RELATIONS
    )
    english = {"now", "price", "fail", "caller"}
    assert revealed(answers, secret - english) == set()
    quoted = [
        (asked, " ".join(re.findall(r"[.'\"](\w+)", json.loads(text).get("hint") or "")))
        for asked, text in answers
    ]
    assert revealed(quoted, english) == set()
    # The test can fail: names of public are suggested.
    assert revealed(answers, FUNCTIONS), "PostgREST suggested no function at all"
    assert revealed(answers, FUNCTIONS | RELATIONS) <= FUNCTIONS | RELATIONS


def test_unknown_columns_reveal_columns_of_public_only(caller: Caller) -> None:
    for path in sorted(COLUMNS):
        relation, _, column = path.partition(".")
        answer = caller.get(f"{relation}?select={column}s_")
        assert answer.status_code == 400, answer.text
        hint = answer.json()["hint"] or ""
        assert set(re.findall(r'"([\w.]+)"', hint)) <= COLUMNS, hint


def test_errors_of_rpcs_do_not_show_sql_or_internals(operator: Caller, anon: Caller) -> None:
    """A refusal is a sentence: no function body, no table of schema credits."""
    nobody = "00000000-0000-4000-8000-000000000000"
    answers = [
        operator.rpc("grant_credits", user_id=nobody, amount=1, source="bonus"),
        operator.rpc("refund", account_id=nobody, transaction_id=1 << 60),
        operator.rpc("capture_hold", account_id=nobody, hold_id=nobody),
        operator.rpc("release_hold", account_id=nobody, hold_id="x"),
        operator.rpc("refund", account_id=nobody, transaction_id="x"),
        anon.rpc("consume_credits", operation="image_edit"),
    ]
    for answer in answers:
        assert answer.status_code in (400, 401, 404)
        assert not re.search(r"credits\.\w+|PL/pgSQL|SQL statement|insert into|select ", answer.text), (
            answer.text
        )
