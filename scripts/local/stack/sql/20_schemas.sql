-- Schemas, extensions, default privileges and the publication, per database.

create schema extensions;
grant usage on schema extensions to anon, authenticated, service_role;
grant all on schema extensions to postgres;

-- Which of them there are depends on how Postgres was built.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['pgcrypto', 'uuid-ossp'] loop
        if exists (select from pg_available_extensions where name = wanted) then
            execute format('create extension %I with schema extensions', wanted);
        end if;
    end loop;
end;
$$;
grant all on all routines in schema extensions to postgres;

grant usage on schema public to postgres, anon, authenticated, service_role;

-- Hosted projects used to grant everything in public to the API roles, and since 2026-10-30 take
-- back exactly what the second half of this list takes back. TRUNCATE, REFERENCES, TRIGGER (and
-- MAINTAIN) on tables and UPDATE on sequences are left over, and PUBLIC keeps EXECUTE on functions,
-- because `in schema` cannot revoke a built-in default. A migration has to revoke these itself.
alter default privileges for role postgres in schema public
    grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    grant all on sequences to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    revoke select, insert, update, delete on tables from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    revoke usage, select on sequences from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    revoke execute on functions from anon, authenticated, service_role;

-- Objects that supabase_admin makes in public are still open to all, as hosted.
alter default privileges for role supabase_admin in schema public
    grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
    grant all on sequences to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
    grant all on functions to postgres, anon, authenticated, service_role;

create publication supabase_realtime;
alter publication supabase_realtime owner to postgres;

-- PostgREST reloads its schema cache after DDL.
create function extensions.pgrst_notify_ddl() returns event_trigger
language plpgsql
as $$
begin
    if exists (
        select
        from pg_event_trigger_ddl_commands() as command
        where command.schema_name is distinct from 'pg_temp'
    ) then
        notify pgrst, 'reload schema';
    end if;
end;
$$;

create function extensions.pgrst_notify_drop() returns event_trigger
language plpgsql
as $$
begin
    if exists (select from pg_event_trigger_dropped_objects() as object where not object.is_temporary) then
        notify pgrst, 'reload schema';
    end if;
end;
$$;

create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_notify_ddl();
create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_notify_drop();
