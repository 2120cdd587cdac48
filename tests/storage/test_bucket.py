"""sql/generation/generations_bucket.sql: where there is Storage, and where there is none."""

import psycopg

from tests.support.stack import ROOT, Database

SQL = (ROOT / "sql" / "generation" / "generations_bucket.sql").read_bytes()


def test_the_migration_makes_it(scratch_db: Database) -> None:
    with scratch_db.connect() as connection:
        row = connection.execute(
            "select id, public, file_size_limit, allowed_mime_types from storage.buckets"
        ).fetchone()
    types = ["image/png", "image/jpeg", "image/webp", "image/gif", "video/mp4", "video/webm", "text/plain"]
    assert row == ("generations", False, 100_000_000, types)


def test_a_second_time_changes_nothing(scratch_db: Database) -> None:
    policies = (
        "select policyname, cmd, qual, with_check from pg_policies where schemaname = 'storage' order by 1"
    )
    with scratch_db.connect() as connection:
        before = connection.execute(policies).fetchall()
        connection.execute("update storage.buckets set file_size_limit = 7")
        connection.execute(SQL)
        assert connection.execute("select file_size_limit from storage.buckets").fetchall() == [(7,)]
        assert connection.execute(policies).fetchall() == before
        assert len(before) == 3


def test_a_database_without_storage_is_left_alone(scratch_db: Database) -> None:
    with scratch_db.connect(admin=True) as admin:
        admin.execute("drop schema storage cascade")
    with scratch_db.connect() as connection:
        connection.execute(SQL)
        assert connection.execute("select to_regnamespace('storage')").fetchone() == (None,)
        nobody = connection.execute("select public.sweep_files(gen_random_uuid())").fetchone()
        assert nobody == (None,)  # there is nothing to sweep


def test_postgres_does_it_without_being_a_superuser(scratch_db: Database) -> None:
    with scratch_db.connect() as connection:
        assert connection.execute(
            "select current_user::text, rolsuper from pg_roles where rolname = current_user"
        ).fetchone() == ("postgres", False)
        for policy in ("generations_read_own", "generations_upload_inputs", "generations_delete_inputs"):
            connection.execute(f"drop policy {policy} on storage.objects")
        connection.execute(SQL)
        try:
            connection.execute("set role supabase_storage_admin")
        except psycopg.errors.InsufficientPrivilege:
            return
        # Before PostgreSQL 16 a member may always become the role.
        assert connection.info.server_version < 160000
