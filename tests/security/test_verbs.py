"""Every relation, every function and every verb, from outside: allowed or refused as the allowlist says."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from scripts.checks import catalog
from tests.support.rest import Caller, Person, code

Connection = psycopg.Connection[Any]

COLUMNS = """
    select a.attname::text
    from pg_attribute as a
    where
        a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped
        and a.attidentity = '' and a.attgenerated = ''
    order by a.attnum
    limit 1
"""
ARGUMENTS = """
    select p.proargnames[1:p.pronargs]
    from pg_proc as p
    where p.oid = %s::regprocedure
"""


@pytest.fixture(params=["anon", "authenticated", "service_role"])
def caller(
    request: pytest.FixtureRequest, anon: Caller, operator: Caller, person: Callable[[], Person]
) -> Caller:
    callers: dict[str, Callable[[], Caller]] = {
        "anon": lambda: anon,
        "authenticated": lambda: person().caller,
        "service_role": lambda: operator,
    }
    return callers[request.param]()


def relations(db: Connection, schema: str) -> list[str]:
    """Names of the schema's relations, from the catalog: what is new is asked for too."""
    names = catalog.granted(db)["relations"]
    return [name.removeprefix(f"{schema}.") for name in names if name.startswith(f"{schema}.")]


def test_relations_of_public(caller: Caller, db: Connection, allowed: catalog.Grants) -> None:
    wrong = {}
    for relation in relations(db, "public"):
        row = db.execute(COLUMNS, [f"public.{relation}"]).fetchone()
        assert row
        column = row[0]
        may = allowed["relations"][f"public.{relation}"].get(caller.role, set())
        for verb, needs, path, body in (
            ("GET", "select", f"{relation}?limit=1", None),
            ("HEAD", "select", f"{relation}?limit=1", None),
            ("POST", "insert", relation, {}),
            ("PUT", "insert", f"{relation}?{column}=eq.1", {column: 1}),
            ("PATCH", "update", f"{relation}?{column}=is.null", {column: None}),
            ("DELETE", "delete", f"{relation}?{column}=is.null", None),
        ):
            answer = caller.send(verb, path, json=body)
            if any(privilege.partition("(")[0] == needs for privilege in may):
                fine = answer.status_code in (200, 201, 204, 206)
            else:
                # Refused before the grant is looked at: a write to a view that nobody can write to, or to an
                # id that the table draws, a PUT that does not name the primary key, or names it with no uuid.
                fine = answer.status_code == (401 if caller.role == "anon" else 403) or (
                    verb not in ("GET", "HEAD")
                    and code(answer) in ("55000", "428C9", "PGRST105", "42P10", "22P02")
                )
            if not fine:
                wrong[verb, relation] = (answer.status_code, answer.text)
    assert wrong == {}


def test_relations_of_credits_are_not_there(caller: Caller, db: Connection) -> None:
    of_public = relations(db, "public")
    for relation in relations(db, "credits"):
        assert relation in of_public or caller.get(relation).status_code == 404, relation
        for verb, header in (
            ("GET", "Accept_Profile"),
            ("POST", "Content_Profile"),
            ("DELETE", "Content_Profile"),
        ):
            answer = caller.send(verb, relation, json={} if verb == "POST" else None, **{header: "credits"})
            assert (answer.status_code, code(answer)) == (406, "PGRST106"), relation


def test_other_schemas_are_not_there(caller: Caller) -> None:
    for schema in ("auth", "extensions", "pg_catalog", "information_schema", "supabase_migrations"):
        answer = caller.get("users", Accept_Profile=schema)
        assert (answer.status_code, code(answer)) == (406, "PGRST106"), schema
    for table in ("users", "pg_authid", "schema_migrations"):
        assert caller.get(table).status_code == 404, table


def test_functions_of_public(caller: Caller, db: Connection, allowed: catalog.Grants) -> None:
    wrong = {}
    for signature in catalog.granted(db)["functions"]:
        if not signature.startswith("public."):
            continue
        name = signature.removeprefix("public.").partition("(")[0]
        row = db.execute(ARGUMENTS, [signature]).fetchone()
        assert row
        may = "execute" in allowed["functions"][signature].get(caller.role, set())
        # Nulls go through to the function, which finds nothing to do.
        arguments = dict.fromkeys(row[0] or [])
        answer = caller.rpc(name, **arguments)
        if (code(answer) == "42501") == may or (not may and answer.status_code not in (401, 403)):
            wrong[name] = (answer.status_code, answer.text)
        if not may:
            query = "&".join(f"{argument}=1" for argument in arguments)
            answer = caller.get(f"rpc/{name}?{query}")
            # A 1 that is no uuid is refused before the grant is looked at; no function runs then.
            # Nor does one that takes the whole body, when there is none.
            whole_body = not arguments and code(answer) == "PGRST202"
            if (
                answer.status_code not in (401, 403)
                and code(answer) not in ("22P02", "22007")
                and not whole_body
            ):
                wrong[f"GET {name}"] = (answer.status_code, answer.text)
    assert wrong == {}


def test_functions_of_credits_are_not_there(caller: Caller, db: Connection) -> None:
    signatures = [
        signature.partition("(")[0].partition(".") for signature in catalog.granted(db)["functions"]
    ]
    names = {name for schema, _, name in signatures if schema == "credits"}
    of_public = {name for schema, _, name in signatures if schema == "public"}
    for name in sorted(names):
        if name not in of_public:
            answer = caller.rpc(name)
            assert (answer.status_code, code(answer)) == (404, "PGRST202"), name
        answer = caller.send("POST", f"rpc/{name}", json={}, Content_Profile="credits")
        assert (answer.status_code, code(answer)) == (406, "PGRST106"), name


def test_what_a_client_may_not_do_changed_nothing(person: Callable[[], Person], db: Connection) -> None:
    """The refusals above are by status; this one looks at the rows."""
    ann = person()
    rows = "select to_jsonb(a) from public.credit_accounts as a where id = %s"
    before = db.execute(rows, [ann.account_id]).fetchone()
    for path in ("credit_accounts", "credit_transactions", "credit_holds", "user_credits", "purchases"):
        column = "id" if path != "user_credits" else "account_id"
        for verb, body in (
            ("PATCH", {"balance": 1000000, "amount": 1, "status": "released"}),
            ("DELETE", None),
        ):
            target = f"{path}?{column}=not.is.null"
            assert ann.caller.send(verb, target, json=body).status_code >= 400, (verb, path)
    assert db.execute(rows, [ann.account_id]).fetchone() == before


def test_openapi_lists_only_what_the_role_may_reach(caller: Caller, allowed: catalog.Grants) -> None:
    answer = caller.get("")
    assert answer.status_code == 200
    listed = set(answer.json()["paths"]) - {"/"}
    expected = {
        f"/{name.removeprefix('public.')}"
        for name, roles in allowed["relations"].items()
        if name.startswith("public.") and roles.get(caller.role)
    } | {
        f"/rpc/{name.removeprefix('public.').partition('(')[0]}"
        for name, roles in allowed["functions"].items()
        if name.startswith("public.") and roles.get(caller.role)
    }
    assert listed == expected
    described = answer.json().get("definitions", {}).keys()
    assert {f"/{name}" for name in described} <= expected


def test_options_tells_nothing_of_rows(caller: Caller, db: Connection) -> None:
    for relation in relations(db, "public"):
        answer = caller.send("OPTIONS", relation)
        assert (answer.status_code, answer.content) == (200, b""), relation
    for relation in set(relations(db, "credits")) - set(relations(db, "public")):
        assert caller.send("OPTIONS", relation).status_code == 404, relation


def test_nobody_gets_a_query_plan(caller: Caller) -> None:
    answer = caller.get("pricing_tiers", Accept="application/vnd.pgrst.plan+json")
    assert answer.status_code == 415
