-- The roles of a hosted project. Run as supabase_admin, the superuser that initdb made.
-- Passwords are set by postgres.py, so that none stands in a file.

-- `postgres` is what a project's owner and its migrations are: powerful, not a superuser.
create role postgres login createdb createrole replication bypassrls;
alter role postgres set search_path to "$user", public, extensions;

-- What a request becomes after PostgREST has checked its token.
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
alter role anon set statement_timeout to '3s';
alter role authenticated set statement_timeout to '8s';

-- What PostgREST logs in as: it may become the three, and nothing by itself.
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
alter role authenticator set statement_timeout to '8s';
alter role authenticator set lock_timeout to '8s';

create role supabase_auth_admin login noinherit createrole;
alter role supabase_auth_admin set search_path to auth;
alter role supabase_auth_admin set idle_in_transaction_session_timeout to 60000;

-- What the storage server logs in as. Like authenticator it may become the three, for one transaction
-- each, so that row level security answers who may do what.
create role supabase_storage_admin login noinherit createrole;
grant authenticator to supabase_storage_admin;
alter role supabase_storage_admin set search_path to storage;
alter role supabase_storage_admin set idle_in_transaction_session_timeout to 60000;

-- What the realtime server logs in as: it reads the publication, and asks policies as one of the three. It may use
-- the types of every schema, to tell their values. (Hosted it logs in as supabase_admin; this role cannot log in.)
create role supabase_realtime_admin login replication;
grant authenticator, pg_read_all_data to supabase_realtime_admin;
alter role supabase_realtime_admin set search_path to public, extensions;
alter role supabase_realtime_admin set statement_timeout to '8s';
alter role supabase_realtime_admin set idle_in_transaction_session_timeout to 60000;

alter role supabase_admin set search_path to "$user", public, auth, extensions;

grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres with admin option;

-- Before 16 CREATEROLE reaches every role that is no superuser; since 16 it reaches those granted
-- WITH ADMIN OPTION, and `alter role authenticator set pgrst....` needs that.
do $$
begin
    if current_setting('server_version_num')::int >= 160000 then
        grant anon, authenticated, service_role, authenticator to postgres with admin option;
    else
        grant anon, authenticated, service_role, authenticator to postgres;
    end if;
end;
$$;

-- On hosted projects supautils lets postgres make policies on storage.objects and storage.buckets, which
-- supabase_storage_admin owns, and on realtime.messages. Only an owner or a member may without it. So postgres can do
-- more to these tables here than hosted (alter them, say, or comment on a policy): migrations must not use that.
do $$
begin
    if current_setting('server_version_num')::int >= 160000 then
        -- As text: 15 would not even parse it.
        execute 'grant supabase_storage_admin, supabase_realtime_admin to postgres with inherit true, set false';
    else
        grant supabase_storage_admin, supabase_realtime_admin to postgres;
    end if;
end;
$$;

-- Hosted projects let postgres set PostgREST's settings on authenticator (supautils allows pgrst.*).
grant set on parameter "pgrst.db_pre_request" to postgres;

-- Hosted projects let postgres set these through supautils, a module that is not to be had here.
do $$
declare
    setting text;
begin
    foreach setting in array array[
        'pgrst.db_aggregates_enabled', 'pgrst.db_anon_role', 'pgrst.db_extra_search_path',
        'pgrst.db_hoisted_tx_settings', 'pgrst.db_max_rows', 'pgrst.db_plan_enabled',
        'pgrst.db_pre_request', 'pgrst.db_prepared_statements', 'pgrst.db_root_spec', 'pgrst.db_schemas',
        'pgrst.db_tx_end', 'pgrst.jwt_aud', 'pgrst.jwt_role_claim_key', 'pgrst.openapi_mode',
        'pgrst.openapi_security_active', 'pgrst.openapi_server_proxy_uri', 'pgrst.server_cors_allowed_origins',
        'pgrst.server_timing_enabled', 'pgrst.server_trace_header', 'session_replication_role',
        'log_min_messages', 'track_io_timing'
    ] loop
        execute format('grant set on parameter %s to postgres', setting);
    end loop;
end;
$$;
