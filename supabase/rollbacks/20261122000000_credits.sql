-- Takes supabase/migrations/20261122000000_credits.sql back: afterwards the database is as it was before.
--
--   psql "$DB_URL" -v ON_ERROR_STOP=1 -f supabase/rollbacks/20261122000000_credits.sql
--
-- All or nothing, as `postgres`. It refuses while the ledger holds more than sign-up bonuses. To drop the ledger
-- nevertheless (dump it first), put -c "set credits.confirm_drop = 'yes'" before -f. It also refuses while something of
-- the app's own, such as a view, hangs on a table of schema public: the error names it. Schema credits is dropped with
-- whatever hangs on it.
--
-- Not given back, because nobody knows what was there: another pgrst.db_pre_request than this one, and, on projects
-- from before 2026-10-30, EXECUTE for the API roles on functions that are made in public later.
begin;

set local lock_timeout = '10s';

do $$
begin
  if to_regclass('public.credit_transactions') is null then
    raise exception 'There is no credit ledger in this database: nothing was done.';
  end if;
end
$$;

-- Nobody may write between the question and the drop.
lock table public.credit_accounts, public.credit_transactions, public.credit_holds in access exclusive mode;

do $$
declare
  more bigint;
begin
  select count(*) into more
  from public.credit_transactions as t
  where t.kind <> 'grant' or t.idempotency_key is distinct from 'sys:signup_bonus';
  if more > 0 and coalesce(current_setting('credits.confirm_drop', true), '') <> 'yes' then
    raise exception 'The ledger holds % rows besides sign-up bonuses: nothing was done.', more
      using hint = 'Dump it; then, if it may go, run this again after: set credits.confirm_drop = ''yes''.';
  end if;

  if to_regclass('cron.job') is not null then
    execute $job$select cron.unschedule(j.jobid) from cron.job as j where j.jobname = 'credits-maintenance'$job$;
  end if;
  if exists (
    select from pg_catalog.pg_db_role_setting as s
    where s.setrole = 'authenticator'::regrole and s.setdatabase = 0
    and s.setconfig @> array['pgrst.db_pre_request=credits.check_request']
  ) then
    alter role authenticator reset "pgrst.db_pre_request";
  end if;
end
$$;

-- The bucket goes if it is empty; files of users stay, for service_role to fetch.
do $$
begin
  if to_regclass('storage.objects') is not null then
    drop policy if exists generations_read_own on storage.objects;
    drop policy if exists generations_upload_inputs on storage.objects;
    drop policy if exists generations_delete_inputs on storage.objects;
    perform set_config('storage.allow_delete_query', 'true', true);
    delete from storage.buckets as b
    where b.id = 'generations' and not exists (select from storage.objects as o where o.bucket_id = b.id);
  end if;
end
$$;

drop function public.begin_generation(text, integer, text, text, jsonb, integer, boolean, integer, text[]);
drop function public.cancel_generation(uuid);
drop function public.capture_hold(uuid, uuid, integer, jsonb);
drop function public.claim_second_subscription(uuid, text, boolean);
drop function public.close_checkout(uuid, text);
drop function public.close_second_subscription(uuid, text, text, text);
drop function public.consume_credits(text, integer, text, jsonb);
drop function public.credit_history(text[], text[], date, date, bigint, integer);
drop function public.credit_lots(bigint, integer);
drop function public.credit_usage(date, date, text, text, jsonb, boolean);
drop function public.decline_generation(uuid, uuid, jsonb);
drop function public.dismiss_stripe_event(text, text);
drop function public.dismiss_stripe_object(text, text);
drop function public.dispatch_generation(uuid, uuid);
drop function public.finish_generation(uuid, uuid, text, jsonb, jsonb, integer, numeric, jsonb);
drop function public.erase_account_text(uuid);
drop function public.erase_transaction_text(uuid, bigint);
drop function public.freeze_account(uuid, text);
drop function public.grant_credits(uuid, bigint, text, timestamptz, integer, text, jsonb, bigint, text);
drop function public.hold_credits(text, integer, text, interval, jsonb);
drop function public.ingest_stripe_event(jsonb);
drop function public.ingest_stripe_object(jsonb);
drop function public.lease_generations(uuid, integer, integer);
drop function public.link_stripe_customer(uuid, text, text);
drop function public.list_second_subscriptions(boolean);
drop function public.maintenance_report();
drop function public.my_credits();
drop function public.my_generation(uuid);
drop function public.my_stripe_customer();
drop function public.note_generation(uuid, uuid, text, boolean, integer, uuid, integer);
drop function public.note_stripe_price(text, jsonb);
drop function public.prepare_checkout(text, text, integer, text);
drop function public.prepare_portal(text);
drop function public.quote_credits(text, integer, jsonb, integer, boolean, integer);
drop function public.refund(uuid, bigint, bigint, text, text);
drop function public.release_generations(uuid);
drop function public.release_hold(uuid, uuid, text);
drop function public.remember_checkout(uuid, text, text, text, timestamptz);
drop function public.retry_stripe_events(timestamptz);
drop function public.set_time_zone(text);
drop function public.stripe_balance_transactions_to_ask(text);
drop function public.stripe_emails_to_tell();
drop function public.stripe_prices_to_check();
drop function public.stripe_problems();
drop function public.stripe_sync(timestamptz, timestamptz);
drop function public.sweep_files(uuid, integer);
drop function public.unfreeze_account(uuid);
drop function public.verify_ledger(uuid);
drop view public.transactions_export;
drop view public.usage_logs;
drop view public.user_credits;

-- Its functions, tables and types, the policies that call them, and the triggers on auth.users, which only the owner of
-- that table could drop by name. It would tell of each.
set local client_min_messages = warning;
drop schema credits cascade;
set local client_min_messages = notice;

drop table public.generation_jobs;
drop table public.purchases;
drop table public.subscriptions;
drop table public.subscription_plans;
drop table public.credit_holds;
drop table public.credit_transactions;
drop table public.credit_accounts;
drop table public.pricing_tiers;
drop table public.credit_packages;
drop type public.freeze_cause;
drop type public.generation_status;
drop type public.grant_source;
drop type public.hold_status;
drop type public.purchase_status;
drop type public.transaction_kind;

alter default privileges grant execute on functions to public;

-- The role belongs to the cluster: it stays while somebody has it, or another database uses it.
revoke usage on schema public from pricing_admin;
do $$
begin
  if exists (
    select from pg_catalog.pg_auth_members as m
    where m.roleid = 'pricing_admin'::regrole and m.member <> current_user::regrole
  ) then
    raise notice 'The role pricing_admin stays: somebody is a member of it.';
  else
    drop role pricing_admin;
  end if;
exception
  when dependent_objects_still_exist then
    raise notice 'The role pricing_admin stays: something else uses it.';
end
$$;

do $$
begin
  if to_regclass('supabase_migrations.schema_migrations') is not null then
    execute $row$delete from supabase_migrations.schema_migrations where version = '20261122000000'$row$;
  end if;
end
$$;

notify pgrst, 'reload config';
notify pgrst, 'reload schema';

commit;
