"""Migrations through the Supabase CLI, as `supabase db push` applies them: as `postgres`, no superuser."""

import re
import threading
from pathlib import Path

import psycopg
import pytest

from scripts.checks import databases
from scripts.local.stack import StackError, migrations
from tests.support.projects import Server
from tests.support.stack import ROOT

LEDGER = "select to_regclass('public.credit_transactions') is not null"
VERSIONS = "select array_agg(version order by version) from supabase_migrations.schema_migrations"


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


def up(root: Path, url: str) -> "tuple[int, str]":
    done = migrations.run_cli(root, "migration", "up", "--yes", f"--remote={databases.without_tls(url)}")
    return done.returncode, done.stdout


def test_they_apply_as_postgres_and_the_second_time_there_is_nothing_to_do(server: Server) -> None:
    name = server.new()
    url = server.url(name)
    assert ask(url, "select rolsuper from pg_roles where rolname = current_user") is False
    status, said = up(ROOT, url)
    assert status == 0, said
    assert ask(url, VERSIONS) == sorted(migrations.versions(ROOT))
    before = server.dump(name)
    status, said = up(ROOT, url)
    assert (status, "up to date" in said) == (0, True), said
    assert server.dump(name) == before
    assert migrations.apply(ROOT, url) == []


def test_everything_belongs_to_postgres(migrated: str) -> None:
    """An object of another owner could not be changed by the next migration."""
    owners = """
        select array_agg(distinct owner::regrole::text) from (
            select nspowner as owner from pg_namespace where nspname = 'credits'
            union all
            select relowner from pg_class
            where relnamespace in ('public'::regnamespace, 'credits'::regnamespace)
            union all
            select proowner from pg_proc
            where pronamespace in ('public'::regnamespace, 'credits'::regnamespace)
        ) as o
    """
    assert ask(migrated, owners) == ["postgres"]


def test_they_need_no_extension(server: Server, migrated: str) -> None:
    extensions = "select array_agg(extname::text order by 1) from pg_extension"
    assert ask(migrated, extensions) == ask(server.url(server.new()), extensions)
    for path in (ROOT / "supabase" / "migrations").glob("*.sql"):
        assert not re.search(r"(?i)create\s+extension", path.read_text()), path.name


def test_one_that_fails_at_its_end_leaves_nothing(server: Server, project: Path) -> None:
    first = sorted((project / "supabase" / "migrations").glob("*.sql"))[0]
    good = first.read_text()
    first.write_text(good + "\nselect 1 / 0;\n")
    name = server.new()
    before = server.dump(name)
    with pytest.raises(StackError, match="division by zero"):
        migrations.apply(project, server.url(name))
    assert server.dump(name) == before
    assert ask(server.url(name), LEDGER) is False
    # Put right, it applies: no trace of the first try is in its way.
    first.write_text(good)
    assert migrations.apply(project, server.url(name)) == sorted(migrations.versions(project))


def test_a_later_one_that_fails_leaves_the_earlier_ones(server: Server, project: Path) -> None:
    folder = project / "supabase" / "migrations"
    (folder / "20991231000000_broken.sql").write_text(
        "alter table public.credit_holds add column half_way integer;\nselect 1 / 0;\n"
    )
    url = server.url(server.new())
    with pytest.raises(StackError, match="division by zero"):
        migrations.apply(project, url)
    assert ask(url, LEDGER) is True
    assert "20991231000000" not in str(ask(url, VERSIONS))
    assert ask(url, "select count(*) from pg_attribute where attname = 'half_way'") == 0


def test_two_at_once_do_no_harm(server: Server) -> None:
    """Two deployments race; one may fail. The database is whole in any case, and nothing is left to do."""
    name = server.new()
    url = server.url(name)
    answers: list[tuple[int, str]] = []
    threads = [threading.Thread(target=lambda: answers.append(up(ROOT, url))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 in [status for status, _ in answers], answers
    assert migrations.apply(ROOT, url) == []
    assert ask(url, VERSIONS) == sorted(migrations.versions(ROOT))
    alone = server.new()
    migrations.apply(ROOT, server.url(alone))
    assert server.dump(name) == server.dump(alone)


def test_a_server_of_the_checks_stands_beside_another(server: Server) -> None:
    """Of one process, as in a run of the suite."""
    with databases.postgres(ROOT) as second, second.connect() as connection:
        row = connection.execute("show port").fetchone()
        assert row and row[0] != ask(server.url("postgres"), "show port")
    assert ask(server.url("postgres"), "select 1") == 1


def test_the_seed_twice_changes_nothing(server: Server) -> None:
    name = server.new()
    url = server.url(name)
    migrations.apply(ROOT, url)
    seed = ROOT / "supabase" / "seed.sql"
    rows = (
        "select jsonb_build_array((select jsonb_agg(t order by t.id) from public.pricing_tiers as t), "
        "(select jsonb_agg(p order by p.id) from public.credit_packages as p), "
        "(select count(*) from credits.pricing_tier_history))"
    )
    server.postgres.run_file(seed, name)
    first = ask(url, rows)
    assert isinstance(first, list)
    assert {tier["operation"]: tier["credits_per_unit"] for tier in first[0]} == {
        "dalle3_image": 10, "gemini_pro_vision": 8, "stable_diffusion": 3, "image_edit": 15,
        "video_generation": 50, "meme_generation": 5, "ghibli_style": 8, "cartoon_style": 6,
    }  # fmt: skip
    packages = {row["slug"]: (row["credits"], row["unit_amount"], row["is_popular"]) for row in first[1]}
    assert packages == {
        "starter": (50, 499, False), "popular": (200, 1799, True),
        "pro": (500, 3999, False), "enterprise": (2000, 13999, False),
    }  # fmt: skip
    server.postgres.run_file(seed, name)
    assert ask(url, rows) == first
    # What a DBA has changed stays changed.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "update public.pricing_tiers set credits_per_unit = 99 where operation = 'image_edit'"
        )
        connection.execute("update public.credit_packages set active = false where slug = 'pro'")
    changed = ask(url, rows)
    server.postgres.run_file(seed, name)
    assert ask(url, rows) == changed
