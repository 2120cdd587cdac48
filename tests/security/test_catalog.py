"""The catalog's grants equal the allowlist, and each kind of mistake is found."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.checks import catalog
from scripts.local.stack import Stack
from tests.support.stack import Database

Connection = psycopg.Connection[Any]


def test_the_catalog_equals_the_allowlist_and_keeps_the_rules(db: Connection) -> None:
    assert catalog.check(db) == []


def test_clients_can_only_read(allowed: catalog.Grants) -> None:
    """The allowlist itself: no line of it lets an API role write, or read anything of schema credits.

    But what a view of public shows of its reader's own.
    """
    shown = {"credits.usage_logs"}
    for relation, roles in allowed["relations"].items():
        for role in ("PUBLIC", "anon", "authenticated", "service_role"):
            if relation in shown:
                assert all(privilege.startswith("select(") for privilege in roles.get(role, set())), relation
                assert "cost" not in str(roles), relation
                continue
            assert roles.get(role, set()) <= {"select"}, relation
            assert not relation.startswith("credits.") or role not in roles, relation
    for function, roles in allowed["functions"].items():
        assert "PUBLIC" not in roles, function
        assert not function.startswith("public.") or "anon" not in roles, function
    assert not any(roles for roles in allowed["sequences"].values())


PARTITION = """
    create table public.made_later (d date) partition by range (d);
    create table public.part partition of public.made_later default;
"""
MISTAKES = [
    ("create table public.made_later (id int)", "public.made_later has no line"),
    ("create table credits.made_later (id int)", "credits.made_later: row level security"),
    ("create view public.made_later as select 1 as one", "public.made_later must have security_invoker"),
    ("create materialized view public.made_later as select 1 as one", "public.made_later has no line"),
    (
        PARTITION,
        "public.part has no line",
    ),
    (
        PARTITION,
        "public.part: row level security",
    ),
    ("create sequence credits.made_later", "credits.made_later has no line"),
    ("create type public.made_later as enum ('a')", "public.made_later has no line"),
    (
        "create function credits.made_later() returns int language sql as 'select 1'",
        "made_later() has no line",
    ),
    ("create function public.made_later() returns int language sql as 'select 1'", "in schema public"),
    (
        "create function credits.made_later() returns int language sql security definer as 'select 1'",
        "SECURITY DEFINER",
    ),
    ("drop function public.my_credits()", "public.my_credits() stands in grants.toml"),
    ("grant truncate on public.credit_transactions to authenticated", "authenticated can truncate"),
    ("grant trigger, references on public.credit_holds to anon", "anon is granted references, trigger"),
    ("grant select on public.credit_accounts to authenticated with grant option", "with grant option"),
    (
        "grant update (balance) on public.credit_accounts to authenticated",
        "credit_accounts.balance: authenticated can",
    ),
    ("grant select (id) on public.credit_accounts to anon", "credit_accounts.id: anon can select"),
    (
        "grant update (version) on public.pricing_tiers to pricing_admin",
        "pricing_tiers.version: pricing_admin can",
    ),
    ("revoke select on public.credit_packages from anon", "anon is granted nothing, and should have select"),
    ("grant select on credits.usage_logs to public", "PUBLIC is granted select"),
    ("grant select on credits.usage_logs to public", "credits.usage_logs: anon can select"),
    ("grant update on sequence public.pricing_tiers_id_seq to anon", "pricing_tiers_id_seq: anon can update"),
    ("grant create on schema credits to service_role", "credits: service_role can create"),
    ("grant execute on function credits.expire_due(uuid) to service_role", "service_role can execute"),
    (
        "grant execute on function public.my_credits() to public",
        "public.my_credits() is executable by PUBLIC",
    ),
    ("grant pricing_admin to service_role", "pricing_tiers.operation: service_role can insert"),
    ("alter table public.credit_holds disable row level security", "public.credit_holds: row level security"),
    (
        "alter table public.credit_holds no force row level security",
        "public.credit_holds: row level security",
    ),
    ("alter policy own_holds on public.credit_holds to public", "own_holds on public.credit_holds must say"),
    (
        "alter policy own_holds on public.credit_holds using (account_id = credits.my_account_id())",
        "own_holds on public.credit_holds asks for the user once per row",
    ),
    ("alter function public.my_credits() reset search_path", "public.my_credits() must have"),
    ("alter function credits.my_account_id() set search_path = public", "credits.my_account_id() must have"),
    ("alter view public.user_credits set (security_invoker = false)", "public.user_credits must have"),
    (
        "alter default privileges grant execute on functions to public",
        "anon could execute every function made in credits",
    ),
    (
        "alter default privileges in schema public grant execute on functions to authenticated",
        "authenticated could execute every function made in public",
    ),
    ("alter publication supabase_realtime add table public.credit_holds", "credit_holds is published"),
    ("alter publication supabase_realtime drop table public.credit_accounts", "is not published"),
    ("alter table public.credit_accounts replica identity full", "replica identity f"),
    ("alter table public.credit_accounts alter available type bigint", "credit_accounts.available must be"),
    ("alter table public.credit_accounts alter lifetime_spent type bigint", "lifetime_spent must be"),
    (
        "alter table public.purchases add idempotency_key text",
        "public.purchases has an idempotency_key: ONCE must say",
    ),
    (
        "drop index public.credit_transactions_idempotency_key; create unique index on "
        "public.credit_transactions (account_id, idempotency_key) where idempotency_key like 'k%'",
        "public.credit_transactions must have a unique index on (account_id, idempotency_key)",
    ),
    ("create table credits.made_later (id int primary key)", "made_later has the primary key (id)"),
    ("create table credits.made_later (account_id uuid)", "made_later has the primary key (none)"),
    (
        "create table credits.made_later (id int, account_id uuid, primary key (id, account_id))",
        "made_later has the primary key (id, account_id)",
    ),
    (
        "create unique index made_later on credits.usage_days (day)",
        "credits.made_later is unique on credits.usage_days without account_id",
    ),
    (
        # As a column that comes along it makes nothing the account's own.
        "create unique index made_later on credits.usage_days (day) include (account_id)",
        "credits.made_later is unique on credits.usage_days without account_id",
    ),
    (
        "create table credits.made_later (account_id uuid, number int, primary key (account_id, number)); "
        "create unique index on credits.made_later (number); "
        "create table credits.last (account_id uuid primary key, number int, "
        "constraint loose foreign key (number) references credits.made_later (number))",
        "credits.last.loose refers to credits.made_later without account_id",
    ),
    (
        # Another account's row could be meant.
        "create table credits.made_later (account_id uuid, number int, primary key (account_id, number)); "
        "create table credits.last (account_id uuid primary key, other uuid, number int, "
        "constraint loose foreign key (other, number) references credits.made_later (account_id, number))",
        "credits.last.loose refers to credits.made_later without account_id",
    ),
    (
        "create table credits.made_later (account_id uuid primary key, heir uuid, "
        "constraint loose foreign key (heir) references public.credit_accounts (id))",
        "credits.made_later.loose refers to public.credit_accounts without account_id",
    ),
    (
        "drop table credits.file_sweep cascade",
        "credits.file_sweep stands in keys.toml, [home], and needs no reason any more: take it out",
    ),
    (
        "alter type credits.maintenance_task add value 'dust'",
        "no function credits.sweep_dust(batch integer) does it",
    ),
    (
        "create function credits.sweep_dust(batch int) returns int language sql as 'select 1'",
        "credits.sweep_dust is never called",
    ),
    ("create table credits.made_later (id int primary key)", "made_later stands in 0 lists of changes.toml"),
    ("drop trigger append_only on credits.clawbacks", "credits.clawbacks refuses truncate, and should"),
    (
        "alter table credits.purchase_grants disable trigger no_truncate",
        "credits.purchase_grants refuses delete, update, and should",
    ),
    (
        # A trigger that comes after the deed is not one of ours.
        "create or replace trigger no_delete after delete on public.purchases for each row "
        "execute function credits.refuse_change()",
        "public.purchases refuses truncate, and should",
    ),
    (
        "create or replace trigger append_only before delete or update on credits.lot_returns for each row "
        "when (old.amount > 1) execute function credits.refuse_change()",
        "credits.lot_returns does not always refuse delete, truncate, update: changes.toml says otherwise",
    ),
    (
        "create or replace trigger append_only before delete or update of cause on credits.clawbacks "
        "for each row execute function credits.refuse_change()",
        "credits.clawbacks does not always refuse",
    ),
    (
        "create or replace trigger only_grows before update on credits.lot_payments for each row "
        "execute function credits.refuse_change()",
        "credits.lot_payments always refuses",
    ),
    (
        "create trigger no_delete before delete on credits.usage_days for each row "
        "execute function credits.refuse_change()",
        "credits.usage_days refuses delete, and should nothing",
    ),
    (
        "drop table credits.file_sweep cascade",
        "credits.file_sweep stands in changes.toml, [changing], but is not in the database",
    ),
    (
        "comment on function public.refund(uuid, bigint, bigint, text, text) is null",
        "refund(uuid,bigint,bigint,text,text) has no",
    ),
]


@pytest.mark.parametrize(("mistake", "finding"), MISTAKES)
def test_a_mistake_is_found(module_db: Database, mistake: str, finding: str) -> None:
    with module_db.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute(mistake)
        findings = catalog.check(connection)
    assert any(finding in line for line in findings), findings


def test_keys_that_carry_the_account_need_no_reason(module_db: Database) -> None:
    listed = catalog.listed_keys()
    with module_db.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute(
            "create table credits.made_later (account_id uuid, number int, "
            "primary key (account_id, number)); "
            "create unique index one on credits.made_later (number, account_id); "
            "create table credits.last (account_id uuid primary key references public.credit_accounts, "
            "number int, foreign key (account_id, number) references credits.made_later)"
        )
        assert catalog.unkeyed(connection, listed) == []
        sections = ("home", "credits.made_later"), ("unique", "credits.one"), ("foreign_keys", "a.b")
        for section, name in sections:
            more = {**listed, section: {**listed[section], name: "A reason."}}
            assert catalog.unkeyed(connection, more) == [
                f"{name} stands in keys.toml, [{section}], and needs no reason any more: take it out."
            ]
        # Who lists without a reason has listed nothing.
        connection.execute("create unique index loose on credits.made_later (number)")
        for reason, findings in (("", 1), (" ", 1), ("A reason.", 0)):
            more = {**listed, "unique": {"credits.loose": reason}}
            assert len(catalog.unkeyed(connection, more)) == findings


def test_a_list_of_keys_with_an_unknown_section_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text('[tables]\n"credits.secrets" = "A reason."\n')
    with pytest.raises(ValueError, match=r"keys.toml: .tables. is not one of home, unique, foreign_keys"):
        catalog.listed_keys(tmp_path / "keys.toml")


def test_a_list_of_changes_says_each_table_once_and_why(module_db: Database, tmp_path: Path) -> None:
    listed = catalog.listed_changes()
    twice = {**listed, "append_only": {**listed["append_only"], "credits.secrets": ""}}
    without = {**listed, "changing": {**listed["changing"], "credits.secrets": " "}}
    with module_db.connect() as connection:
        assert catalog.changeable(connection, twice) == [
            "credits.secrets stands in 2 lists of changes.toml: say in one what it refuses."
        ]
        assert catalog.changeable(connection, without) == [
            "credits.secrets refuses nothing: say in changes.toml why."
        ]
    (tmp_path / "changes.toml").write_text('[tables]\n"credits.secrets" = "A reason."\n')
    with pytest.raises(ValueError, match=r"changes.toml: .tables. is not one of append_only, never_deleted"):
        catalog.listed_changes(tmp_path / "changes.toml")


@pytest.mark.parametrize("table", catalog.listed_changes()["append_only"])
def test_what_is_appended_stays(module_db: Database, table: str) -> None:
    """Also against a TRUNCATE of its owner's, and of whatever refers to it."""
    with module_db.connect() as connection:
        with pytest.raises(psycopg.Error, match=f"{table} is append-only: TRUNCATE is refused") as caught:
            connection.execute(f"truncate {table} cascade".encode())
        assert caught.value.sqlstate == "PT403"


def test_a_domain_without_its_limits_is_found(scratch_db: Database) -> None:
    with scratch_db.connect() as connection:
        connection.execute("alter domain credits.credit_amount drop constraint must_be_0_to_a_quadrillion")
        findings = catalog.broken_rules(connection)
    sentence = "credits.credit_amount must be from 0 to a quadrillion."
    assert findings == [f"credits do not go below zero: {sentence}"]


@pytest.mark.parametrize(("relation", "columns"), catalog.ONCE)
def test_an_index_that_is_not_unique_is_found(module_db: Database, relation: str, columns: str) -> None:
    """Made anew without `unique`, as whoever wants a faster spend might."""
    with module_db.connect() as connection, connection.transaction(force_rollback=True):
        indexes = connection.execute(
            "select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), k.conname "
            "from pg_index as i "
            "left join pg_constraint as k on k.conindid = i.indexrelid and k.contype in ('p', 'u') "
            "where i.indrelid = %s::regclass and i.indisunique",
            [relation],
        ).fetchall()
        made = 0
        for index, definition, constraint in indexes:
            keys = definition[definition.index("(") + 1 : definition.index(")")].replace(" DESC", "")
            if keys == columns:
                drop = f"alter table {relation} drop constraint {constraint} cascade"
                connection.execute((drop if constraint else f"drop index {index}").encode())
                connection.execute(definition.replace("CREATE UNIQUE", "CREATE").encode())
                made += 1
        assert made == 1
        findings = catalog.broken_rules(connection)
    assert f"what is there once: {relation} must have a unique index on ({columns})." in findings


def test_maintain_is_looked_at_where_there_is_such_a_privilege(module_db: Database) -> None:
    with module_db.connect() as connection:
        if connection.info.server_version < 170000:
            pytest.skip("MAINTAIN came with PostgreSQL 17")
        with connection.transaction(force_rollback=True):
            connection.execute("grant maintain on public.credit_accounts to anon")
            findings = catalog.check(connection)
    assert any("anon can maintain" in line for line in findings), findings


def test_an_unchanged_database_has_no_findings(module_db: Database) -> None:
    """Else the test above could find its words among others."""
    with module_db.connect() as connection:
        assert catalog.check(connection) == []


def test_a_project_from_before_2026_10_30_ends_with_the_same_grants(stack: Stack) -> None:
    """Such projects give everything in public to the API roles by default."""
    name = "old_project"
    url = stack.create_database(name)
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            for kind in ("tables", "sequences", "functions"):
                connection.execute(
                    f"alter default privileges in schema public grant all on {kind} "
                    "to anon, authenticated, service_role"
                )
            connection.execute("create table public.app (id bigint generated always as identity)")
            before = connection.execute(
                "select has_table_privilege('anon', 'public.app', 'delete'), "
                "has_sequence_privilege('anon', 'public.app_id_seq', 'usage')"
            ).fetchone()
            assert before == (True, True), "this is not how an old project behaves"
            connection.execute("drop table public.app")
            stack.apply_migrations(url)
            assert catalog.check(connection) == []
    finally:
        stack.drop_database(name)
