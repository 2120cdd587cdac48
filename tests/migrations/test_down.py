"""Each migration can be taken back: up, down, and the catalog is what it was; up again."""

import uuid

import psycopg

from scripts.checks import make_migration
from scripts.local.stack import migrations
from tests.support.projects import Server
from tests.support.stack import ROOT

MIGRATIONS = make_migration.migration_files(ROOT)
ROLLBACKS = [ROOT / "supabase" / "rollbacks" / path.name for path in reversed(MIGRATIONS)]
CONFIRM = "set credits.confirm_drop = 'yes'"


def sign_up(server: Server, name: str) -> str:
    """A user, as Auth makes one. Returns the id."""
    user_id = str(uuid.uuid4())
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        connection.execute(
            "insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())",
            [user_id, f"{user_id}@example.com"],
        )
    return user_id


def down(server: Server, name: str, *before: str) -> str:
    """Run every rollback, newest first; returns what psql said on stderr, empty when all went well."""
    for path in ROLLBACKS:
        commands = [f"--command={command}" for command in before]
        done = server.psql(name, *commands, f"--file={path}")
        if done.returncode:
            return done.stderr
    return ""


def test_every_migration_has_one() -> None:
    assert [path.name for path in ROLLBACKS if not path.exists()] == []


def test_up_down_up(server: Server) -> None:
    name = server.new()
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        # Other tests of this server have made the role and the setting.
        connection.execute('alter role authenticator reset "pgrst.db_pre_request"')
    before = server.dump(name)
    applied = migrations.apply(ROOT, server.url(name))
    there = server.dump(name)
    assert there != before

    # Accounts with nothing but their bonus do not stand in the way, and users stay.
    sign_up(server, name)
    assert down(server, name) == ""
    gone = server.dump(name)
    assert [
        line for line in gone.splitlines() if "credit" in line.lower() and "pricing_admin" not in line
    ] == []
    assert gone == before
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        assert connection.execute("select count(*) from auth.users").fetchone() == (1,)
        assert connection.execute(
            "select count(*) from supabase_migrations.schema_migrations"
        ).fetchone() == (0,)

    assert migrations.apply(ROOT, server.url(name)) == applied
    assert server.dump(name) == there
    sign_up(server, name)


def test_it_refuses_while_the_ledger_is_in_use(server: Server) -> None:
    name = server.new()
    migrations.apply(ROOT, server.url(name))
    user_id = sign_up(server, name)
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        connection.execute("select public.grant_credits(%s, 100, 'purchase')", [user_id])
    there = server.dump(name)
    said = down(server, name)
    assert "The ledger holds 1 rows besides sign-up bonuses: nothing was done." in said
    assert "set credits.confirm_drop = 'yes'" in said
    assert server.dump(name) == there
    assert "nothing was done" in down(server, name, "set credits.confirm_drop = 'no'")
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        assert connection.execute("select sum(amount) from public.credit_transactions").fetchone() == (110,)

    assert down(server, name, CONFIRM) == ""
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        assert connection.execute("select to_regclass('public.credit_accounts')").fetchone() == (None,)


def test_it_refuses_where_there_is_nothing(server: Server) -> None:
    name = server.new()
    assert "There is no credit ledger in this database: nothing was done." in down(server, name)


def test_it_stops_at_what_the_app_has_built_on_it(server: Server) -> None:
    name = server.new()
    migrations.apply(ROOT, server.url(name))
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        connection.execute(
            "create view public.rich as select id from public.credit_accounts where balance > 1000"
        )
    there = server.dump(name)
    assert "view rich depends on table credit_accounts" in down(server, name)
    assert server.dump(name) == there


def test_it_leaves_the_files_of_users(server: Server) -> None:
    for files in (0, 1):
        name = server.new()
        migrations.apply(ROOT, server.url(name))
        with psycopg.connect(server.url(name), autocommit=True) as connection:
            connection.execute(
                "insert into storage.objects (bucket_id, name) select 'generations', 'a/inputs/' || n "
                "from generate_series(1, %s) as n",
                [files],
            )
        assert down(server, name) == ""
        with psycopg.connect(server.url(name), autocommit=True) as connection:
            assert connection.execute(
                "select (select count(*) from storage.buckets), (select count(*) from storage.objects), "
                "(select count(*) from pg_policies where schemaname = 'storage')"
            ).fetchone() == (files, files, 0)


def test_it_leaves_the_role_and_the_setting_that_others_use(server: Server) -> None:
    name = server.new()
    migrations.apply(ROOT, server.url(name))
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        connection.execute("create role a_dba nologin")
        connection.execute("grant pricing_admin to a_dba")
        connection.execute("alter role authenticator set \"pgrst.db_pre_request\" = 'public.of_the_app'")
    try:
        assert down(server, name) == ""
        with psycopg.connect(server.url(name), autocommit=True) as connection:
            roles = connection.execute(
                "select rolname from pg_roles where rolname in ('a_dba', 'pricing_admin')"
            )
            assert len(roles.fetchall()) == 2
            setting = connection.execute(
                "select setconfig from pg_db_role_setting where setrole = 'authenticator'::regrole"
            ).fetchone()
            assert setting and "pgrst.db_pre_request=public.of_the_app" in setting[0]
    finally:
        with psycopg.connect(server.url(name), autocommit=True) as connection:
            connection.execute('alter role authenticator reset "pgrst.db_pre_request"')
            connection.execute("drop role a_dba")
