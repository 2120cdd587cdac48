"""The database from sql/ equals the database from the migrations."""

from pathlib import Path

import psycopg
import pytest

from scripts.checks import catalog, databases, lint
from scripts.local.stack.errors import StackError
from tests.support.projects import Server
from tests.support.stack import ROOT

SETTING = (
    "select array_agg(c) from pg_db_role_setting as s, unnest(s.setconfig) as c "
    "where s.setrole = 'authenticator'::regrole and c like 'pgrst.%'"
)
# What no diff sees: rows that a migration writes.
ROWS = "select to_jsonb(s) from credits.billing_settings as s"


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


@pytest.fixture(scope="module")
def described(server: Server) -> str:
    """The URL of a database made from sql/, which has set on roles just what the migrations set."""
    settings = []
    urls: list[str] = []
    for make in (databases.database_from_migrations, databases.database_from_sql):
        with server.postgres.connect() as connection:
            connection.execute('alter role authenticator reset "pgrst.db_pre_request"')
        urls.append(make(ROOT, server.postgres, f"settings_{len(urls)}"))
        settings.append(ask(urls[-1], SETTING))
    assert settings == [["pgrst.db_pre_request=credits.check_request"]] * 2
    return urls[-1]


def test_there_is_no_difference_in_either_direction(migrated: str, described: str) -> None:
    assert databases.diff(ROOT, migrated, described) == ""
    assert databases.diff(ROOT, described, migrated) == ""


def test_neither_is_there_in_what_the_diff_does_not_see(migrated: str, described: str) -> None:
    assert ask(migrated, ROWS) == ask(described, ROWS)
    with psycopg.connect(migrated) as one, psycopg.connect(described) as other:
        assert catalog.granted(one) == catalog.granted(other)


# What only that change brings into the difference.
DIFFERENCES = {
    "comment on table public.credit_holds is 'other'": 'COMMENT ON TABLE "public"."credit_holds"',
    "grant select on credits.usage_logs to anon": 'GRANT SELECT ON TABLE "credits"."usage_logs" TO "anon"',
    "alter default privileges grant execute on functions to public": "ALTER DEFAULT PRIVILEGES",
    "alter function credits.now() stable": "STABLE",
    "alter publication supabase_realtime add table public.credit_holds": "ALTER PUBLICATION",
    "drop function credits.handle_user() cascade": 'DROP TRIGGER "open_credit_account"',
    "alter table credits.usage_logs alter column model drop not null": "DROP NOT NULL",
}


def test_each_difference_is_seen(server: Server, migrated: str, described: str) -> None:
    """Else the tests above would prove nothing."""
    server.postgres.create_database("changed", described.rpartition("/")[2])
    with psycopg.connect(server.url("changed"), autocommit=True) as connection:
        for change in DIFFERENCES:
            connection.execute(change.encode())
    found = databases.diff(ROOT, migrated, server.url("changed"))
    assert {change: word for change, word in DIFFERENCES.items() if word not in found} == {}, found


def test_every_file_of_sql_is_loaded() -> None:
    assert lint.unlisted(ROOT) == []


def test_a_file_that_is_not_listed_or_not_there_is_found(project: Path) -> None:
    (project / "sql" / "stray.sql").write_text("select 1;\n")
    (project / "sql" / "base" / "now.sql").unlink()
    config = project / "supabase" / "config.toml"
    line = '  "../sql/base/lasts.sql",\n'
    config.write_text(config.read_text().replace(line, line * 2))
    findings = "\n".join(lint.unlisted(project))
    assert "sql/stray.sql is not in schema_paths" in findings
    assert "now.sql, which is not there" in findings
    assert "lasts.sql twice" in findings


def test_a_function_that_a_table_needs_has_to_be_listed(server: Server, project: Path) -> None:
    config = project / "supabase" / "config.toml"
    config.write_text(config.read_text().replace('  "../sql/base/lasts.sql",\n', ""))
    with pytest.raises(
        StackError, match=r"settings.sql does not load(.|\n)*list there what this needs, before it"
    ):
        databases.load_sql(project, server.url(server.new()))


@pytest.mark.parametrize("language", ["sql", "plpgsql"])
def test_a_body_that_calls_what_is_not_there_does_not_load(
    server: Server, project: Path, language: str
) -> None:
    """Bodies are taken unseen while the files load, so that functions need no order: not for good."""
    body = "select credits.now() +;" if language == "plpgsql" else "select credits.not_there();"
    body = f"begin {body} end" if language == "plpgsql" else body
    (project / "sql" / "base" / "stray.sql").write_text(
        f"create function credits.stray() returns void language {language} as $$ {body} $$;\n"
    )
    with pytest.raises(StackError, match="stray"):
        databases.load_sql(project, server.url(server.new()))
