-- The ledger: all of sql/ in load order (supabase/config.toml, schema_paths). Written by scripts/migration.
--
-- One file, so that a database has all of it or nothing: each migration is a transaction of its own. How the
-- parts work together is in sql/README.md. Each file begins with a line such as "-- sql/base/now.sql".
--
-- Types, tables and views, and what they need:
--   sql/base: schema, pricing_admin, now, credit_amount, currency_code, lasts, billing_settings, secrets
--   sql/ledger/entries: is_due
--   sql/accounts: settings, freeze_cause, credit_accounts, account_addresses, call_rates, my_account_id
--   sql/pricing: settings, pricing_tiers, pricing_tier_history, offer_slug, offer_name, offer_credits,
--     offer_amount, offer_quantity, stripe_price_id, credit_packages
--   sql/ledger/tables: settings, transaction_kind, hold_status, grant_source, clawback_cause, credit_transactions,
--     credit_holds, credit_grants, lot_payments, lot_returns, credit_allocations, clawbacks, ledger_seals,
--     sealed_texts, operator_entries
--   sql/usage: settings, account_zones, account_zone, usage_days, usage_of, usage_as_of_now, daily_usage,
--     usage_logs, own_usage_logs
--   sql/generation: settings, generation_status, generation_jobs
--   sql/maintenance: maintenance_task, maintenance_failures
--   sql/generation: file_sweep, provider_costs, generation_margins, generation_failures
--   sql/payments/tables: settings, stripe_event_status, purchase_status, refund_stage, dispute_stage,
--     money_movement, stripe_customers, stripe_events, stripe_objects, stripe_payments, stripe_refunds,
--     stripe_disputes, stripe_balance_transactions, purchase_balances, stripe_fraud_warnings, stripe_progress,
--     subscription_plans, subscriptions, purchases, purchase_grants, allotment_sources, subscription_debts,
--     allotments, second_subscriptions, dismissed_stripe_objects, plan_checkouts, stripe_prices
--   sql/ledger/tables: lots_in_burn_order
--   sql/ledger/lots: lots_as_of_now
--   sql/accounts: my_position, user_credits
--   sql/ledger/entries: csv_text
--   sql/ledger/rpc: transactions_export
--   sql/generation: may_upload_input, generations_bucket
--   sql/payments/checkout: price_differences
--   sql/payments/tables: priced_rows
-- Functions, with their triggers:
--   sql/accounts: account_of, account_position, accounts_of_mailbox, address_hashes, caller, count_call,
--     freeze_account, handle_user, my_credits, normal_email, note_addresses, open_account, pass_debt, pass_freeze,
--     pass_thaw, refuse_anonymous, return_debt, successor, unfreeze_account
--   sql/base: check_metadata, check_request, fail, hmac_sha256, lasting
--   sql/generation: begin_generation, call_cost, cancel_generation, check_generation_limits, check_lease,
--     close_generation, decline_generation, dispatch_generation, expire_generation, finish_generation,
--     generation_terms, input_types, inputs_refusal, job_json, keep_hold, lease_generations, lock_generation,
--     my_generation, note_generation, open_generation, refuse_softly, release_generations, sweep_files,
--     sweep_generations, sweep_grace
--   sql/maintenance: attempt, maintain, maintenance_report, note_failure, run_maintenance, run_task,
--     schedule_maintenance
--   sql/pricing: check_terms, generation_price, is_surcharge, is_whole, max_quantity, option_surcharge, price,
--     price_in_force_id, quote_credits, record_price_change, refuse_price, version_price
--   sql/usage: credit_history, credit_lots, credit_usage, entries_before, is_wanted, is_zone, log_usage,
--     rebuild_usage, set_account_zone, set_time_zone, usage_by_day, usage_by_hour, usage_filter
--   sql/ledger/entries: actor, available, check_cost, claw_back, entry_moment, give_back, grant_to_account,
--     left_to_refund, lock_account, make_spendable, note_operator, pay_debt_from_new_credits, post_entry,
--     return_to_lots
--   sql/ledger/erasure: erase_hold_texts, erase_texts, is_callers_text
--   sql/ledger/holds: capture, hold_at_price, hold_refusal, lock_hold, prune_unused_holds, release, sweep_holds
--   sql/ledger/idempotency: check_key, check_repeat, key_is_new, keyed_hash, refuse_key, repeated_spend,
--     replayed_entry, replayed_hold
--   sql/ledger/lots: add_lot, due_expiries, end_lot, expire_due, next_expiry, write_off
--   sql/ledger/rpc: capture_hold, consume_credits, erase_account_text, erase_transaction_text, grant_credits,
--     hold_credits, refund, release_hold, verify_ledger
--   sql/ledger/settlement: accounts_to_settle, await_account, entry_digest, has_text, ledger_line, max_unsettled,
--     seal_format, seal_hash, settle_account, settle_accounts, settle_batch, settle_before, settlement_batch,
--     sweep_settlement, text_digest, text_salt, try_settling, unsettled_of, wants_settling
--   sql/ledger/tables: refuse_all_but_erasure, refuse_change
--   sql/payments/checkout: count_checkout, email_to_tell
--   sql/payments/events: accept_invoice, apply_balance_transaction, apply_charge, apply_checkout_session,
--     apply_customer, apply_dispute, apply_fraud_warning, apply_invoice, apply_invoice_payment, apply_refund,
--     apply_stripe_object, apply_subscription, balance_figures, is_live, link_customer, link_payment,
--     lock_stripe_object, note_balance_transaction, open_subscription, paying_account, stripe_id, subscriber,
--     sweep_stripe_payloads, sweep_unclaimed_payments, try_stripe_object, unclaimed_retention
--   sql/payments/netting: claw_back_share, debt_takings, end_late_grants, freeze_for_disputes, give_back_clawbacks,
--     grant_purchase, is_disputed, net_payment, next_purchase, note_netting, purchase_payments, take_from_purchase
--   sql/payments/rpc: claim_second_subscription, close_checkout, close_second_subscription, dismiss_stripe_event,
--     dismiss_stripe_object, ingest_stripe_event, ingest_stripe_object, link_stripe_customer,
--     list_second_subscriptions, my_stripe_customer, note_stripe_price, prepare_checkout, prepare_portal,
--     remember_checkout, retry_stripe_events, stripe_balance_transactions_to_ask, stripe_emails_to_tell,
--     stripe_prices_to_check, stripe_problems, stripe_sync
--   sql/payments/subscriptions: allotment_months, begin_months, change_allotments, collect_subscription_debts,
--     grant_allotments, grant_invoice, invoice_grants_and_rollover, is_second_subscription,
--     note_second_subscription, open_allotment, release_subscription_debts, set_subscription_status,
--     subscription_rank, sweep_allotments

set local lock_timeout = '10s';
set local check_function_bodies = off;

-- sql/base/schema.sql
create schema credits;

comment on schema credits is
'Credits: everything that clients do not reach. PostgREST does not expose it. The API roles have USAGE '
'only so that the pre-request check and the policies resolve; every object in it is granted by name.';

-- Without `in schema`: a default that is revoked inside one schema only leaves the global grant to PUBLIC in place.
alter default privileges revoke execute on functions from public;
-- What older Supabase projects hand to the API roles for every new function in public.
alter default privileges in schema public revoke execute on functions from anon, authenticated, service_role;

grant usage on schema credits to anon, authenticated, service_role;

-- sql/base/pricing_admin.sql
-- Roles belong to the cluster, so another database of the same cluster may have made it already.
do $$
begin
  create role pricing_admin nologin;
exception
  when duplicate_object then null;
end
$$;

-- So that postgres can `set role pricing_admin` to see what it may do; since Postgres 16 making a role does not say so.
grant pricing_admin to postgres;

comment on role pricing_admin is
'Credits: a DBA who sets prices. May read, insert and update pricing_tiers, credit_packages, subscription_plans (of a '
'row that is there, not what its Stripe Price says) and credits.provider_costs, and read the price history; nothing '
'else. Give it to a login: grant pricing_admin to NAME.';

grant usage on schema public, credits to pricing_admin;

-- sql/base/now.sql
create function credits.now() returns timestamptz
language sql
volatile
as $$
  select clock_timestamp();
$$;

comment on function credits.now() is
'The time that every rule of the ledger uses, UTC. The wall clock, not the transaction''s start: a session '
'that has been open for an hour must not spend a lot that expired meanwhile. Only its owner can replace it; '
'the tests do, in databases of their own. Every spend asks several times: without a SET clause it is planned as part '
'of its caller.';

-- Evaluated as the reader in policies and in views.
grant execute on function credits.now() to anon, authenticated, service_role, pricing_admin;

-- sql/base/credit_amount.sql
create domain credits.credit_amount as bigint
constraint must_be_0_to_a_quadrillion check (value between 0 and 1000000000000000);

comment on domain credits.credit_amount is
'A number of credits that cannot be negative. A domain, because it is checked only where a statement assigns it: a '
'CHECK of the table is read from the catalog and planned anew by every spend.';

-- sql/base/currency_code.sql
create domain credits.currency_code as text
constraint currency_must_be_an_iso_4217_code_in_lower_case check (value ~ '^[a-z]{3}$');

comment on domain credits.currency_code is
'A currency as Stripe takes it: usd.';

-- sql/base/lasts.sql
create function credits.lasts(span interval, shortest interval, longest interval) returns boolean
language sql
immutable
set search_path = ''
as $$
  select bool_and(s.start + span between s.start + shortest and s.start + longest)
  from generate_series(timestamp '2096-01-01', timestamp '2099-12-01', interval '1 month') as month
  -- How long months last depends on where they begin: the first and the last day are the extremes.
  cross join lateral (values (month), (month + interval '1 month' - interval '1 day')) as s (start);
$$;

comment on function credits.lasts(interval, interval, interval) is
'Whether a span of time takes from shortest to longest, whenever in four years it begins. For the CHECKs of settings: '
'compared as intervals, 100 years less 35999 days are a day, and a month less 30 days nothing.';

-- Evaluated as who edits the plans.
grant execute on function credits.lasts(interval, interval, interval) to pricing_admin;

-- sql/base/billing_settings.sql
create table credits.billing_settings (
  id boolean primary key default true,
  constraint only_one_row check (id)
);

insert into credits.billing_settings default values;

alter table credits.billing_settings enable row level security;
alter table credits.billing_settings force row level security;
revoke all on table credits.billing_settings from anon, authenticated, service_role;

comment on table credits.billing_settings is 'Settings of the ledger: exactly one row. Change it with UPDATE.';
comment on column credits.billing_settings.id is 'Always true: there is one row.';

-- sql/base/secrets.sql
create table credits.secrets (
  name text primary key,
  value bytea not null,
  constraint value_must_have_32_bytes check (length(value) = 32)
);

-- Four random UUIDs are 488 random bits. No extension is needed for them.
insert into credits.secrets (name, value)
values (
  'addresses',
  sha256(convert_to(concat(gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid()), 'UTF8'))
);

alter table credits.secrets enable row level security;
alter table credits.secrets force row level security;
revoke all on table credits.secrets from anon, authenticated, service_role;

comment on table credits.secrets is
'Keys that the database made for itself and tells nobody. They go with a dump: with another value no address is '
'recognised any more.';
comment on column credits.secrets.name is 'What it is for. addresses: the hashes in account_addresses.';
comment on column credits.secrets.value is '32 random bytes.';

-- sql/ledger/entries/is_due.sql
create function credits.is_due(next_expiry timestamptz, lapsed bigint default 0) returns boolean
language sql
volatile
as $$
  select coalesce(lapsed > 0 or next_expiry <= credits.now(), false);
$$;

comment on function credits.is_due(timestamptz, bigint) is
'Whether time has something to do in an account with this next_expiry: a lot or a hold of it has expired. With its '
'lapsed also whether credits may go that only holds kept. The one place that says so; without a SET clause it is '
'planned as part of its caller.';

-- Evaluated as the reader in the policy of credit_accounts.
grant execute on function credits.is_due(timestamptz, bigint) to authenticated;

-- sql/accounts/settings.sql
alter table credits.billing_settings
add column signup_bonus bigint not null default 10,
add column signup_bonus_lifetime interval,
add column anonymous_credits boolean not null default false,
add column low_balance bigint not null default 5,
add constraint low_balance_must_be_0_to_1000000000000 check (low_balance between 0 and 1000000000000),
add constraint signup_bonus_must_be_0_to_1000000 check (signup_bonus between 0 and 1000000),
add constraint signup_bonus_lifetime_must_be_1_second_to_100_years check (
  credits.lasts(signup_bonus_lifetime, '1 second', '100 years')
);

comment on column credits.billing_settings.signup_bonus is
'Credits granted once to a user, and to an address, when the first e-mail address or phone number is confirmed; 0 for '
'none.';
comment on column credits.billing_settings.signup_bonus_lifetime is 'How long the bonus lives; null for ever.';
comment on column credits.billing_settings.anonymous_credits is
'Whether anonymous users may hold credits: with false they get no account, grant or checkout (PT403); what they hold '
'already they may spend. The bonus they never get.';
comment on column credits.billing_settings.low_balance is
'With so many credits available, or fewer, user_credits calls a balance low.';

-- sql/accounts/freeze_cause.sql
create type public.freeze_cause as enum (
  'operator', -- freeze_account: until unfreeze_account
  'dispute', -- a payment is disputed: until no dispute stands any more, or unfreeze_account
  'fraud_warning' -- a card issuer warned of fraud: until unfreeze_account
);

comment on type public.freeze_cause is
'What froze an account. Whoever took over from an account or has its address is frozen for the same cause.';

-- sql/accounts/credit_accounts.sql
-- One row per owner. Today an owner is a user; a team will be a second nullable column beside user_id. The ledger
-- knows accounts only, so it does not change with the kinds of owner.
create table public.credit_accounts (
  id uuid primary key default gen_random_uuid(),
  user_id uuid unique references auth.users (id) on delete set null,
  -- Before updated_at. An UPDATE sets columns in this order, so a hold's next_expiry is never after the hold's end and
  -- needs no second UPDATE; that would make Postgres look up the user again, and wait for one who is being deleted.
  next_expiry timestamptz,
  balance bigint not null default 0,
  available credits.credit_amount not null default 0,
  lifetime_spent credits.credit_amount not null default 0,
  last_entry bigint not null default 0,
  unsettled_since timestamptz,
  updated_at timestamptz not null default clock_timestamp(),
  held credits.credit_amount not null default 0,
  lapsed credits.credit_amount not null default 0,
  lifetime_granted credits.credit_amount not null default 0,
  lifetime_refunded credits.credit_amount not null default 0,
  lifetime_expired credits.credit_amount not null default 0,
  lifetime_clawed_back credits.credit_amount not null default 0,
  frozen_at timestamptz,
  frozen_by public.freeze_cause,
  frozen_reason text,
  settled_through bigint not null default 0,
  debt_from bigint,
  has_keyed_holds boolean not null default false,
  created_at timestamptz not null default clock_timestamp()
)
-- Every spend rewrites the row. Room in the page and no index on what a spend changes keep the rewrite off the indexes
-- (a HOT update); what it changes stands together, because the WAL takes all from the first changed byte to the last.
-- And no CHECK: Postgres reads those from the catalog and plans them anew for every statement, which
-- made a spend a third dearer. The domain of `available` is what keeps it from going below zero.
with (fillfactor = 50);

alter table public.credit_accounts enable row level security;
alter table public.credit_accounts force row level security;
revoke all on table public.credit_accounts from anon, authenticated, service_role;
grant select on table public.credit_accounts to authenticated, service_role;

-- Between the moment a lot expires and its settlement the stored balance still counts it. In that short while the
-- row is not shown, so that nobody reads credits that are gone; user_credits always answers, and rightly.
create policy own_account on public.credit_accounts for select to authenticated
using (user_id = (select auth.uid()) and not credits.is_due(next_expiry));

-- Realtime sends a change to whom the policy lets read it. Old rows carry the primary key only.
alter table public.credit_accounts replica identity default;
do $$
begin
  if exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table public.credit_accounts;
  end if;
end
$$;

comment on table public.credit_accounts is
'One row per owner of credits. Amounts are whole credits. Written by functions only. For a client: '
'subscribe to it with Realtime, read user_credits.';
comment on column public.credit_accounts.user_id is 'The owner; null when the user was deleted.';
comment on column public.credit_accounts.balance is 'Sum of the account''s credit_transactions.amount.';
comment on column public.credit_accounts.held is 'Sum of its open holds.';
comment on column public.credit_accounts.lapsed is
'Part of the balance that has expired and lives only as long as its holds.';
comment on column public.credit_accounts.available is
'What may be spent: balance - held, or 0 where a clawback has left less. Never below 0, by its type.';
comment on column public.credit_accounts.lifetime_granted is 'Credits ever granted.';
comment on column public.credit_accounts.lifetime_spent is 'Credits ever spent or captured, refunds not taken off.';
comment on column public.credit_accounts.lifetime_refunded is 'Credits ever given back by refunds.';
comment on column public.credit_accounts.lifetime_expired is 'Credits ever expired.';
comment on column public.credit_accounts.lifetime_clawed_back is 'Credits ever clawed back.';
comment on column public.credit_accounts.next_expiry is
'When time alone next changes this account: its earliest lot or hold that will expire. Past it, settle first.';
comment on column public.credit_accounts.frozen_at is 'Set while the account may not spend or hold.';
comment on column public.credit_accounts.frozen_by is 'What froze it; null while it is not frozen.';
comment on column public.credit_accounts.frozen_reason is
'The same in words, for people: nothing here reads it. The owner can read it.';
comment on column public.credit_accounts.last_entry is
'The number of its newest ledger row, 0 for none: what the next one counts from. Less settled_through it is how many '
'rows are not settled.';
comment on column public.credit_accounts.unsettled_since is
'When the oldest ledger row after the last settlement was written.';
comment on column public.credit_accounts.has_keyed_holds is
'Whether a hold was ever made with an idempotency key: only then a spend with a key looks among the holds.';
comment on column public.credit_accounts.settled_through is 'The last settled ledger row; 0 for none.';
comment on column public.credit_accounts.debt_from is
'The oldest ledger row that no lot has wholly paid for; null for none.';

-- sql/accounts/account_addresses.sql
create table credits.account_addresses (
  address bytea not null,
  account_id uuid not null,
  successor_id uuid,
  noted_at timestamptz not null default clock_timestamp(),
  primary key (address, account_id),
  constraint address_must_have_32_bytes check (length(address) = 32),
  constraint nobody_succeeds_themselves check (successor_id <> account_id)
);

create index account_addresses_account_id on credits.account_addresses (account_id);
create unique index account_addresses_one_successor on credits.account_addresses (account_id)
where successor_id is not null;
create index account_addresses_successor_id on credits.account_addresses (successor_id) where successor_id is not null;

alter table credits.account_addresses enable row level security;
alter table credits.account_addresses force row level security;
revoke all on table credits.account_addresses from anon, authenticated, service_role;

comment on table credits.account_addresses is
'Every confirmed address that an account has had, so that bonus, debt and freeze outlive the user: by keyed hash, '
'which names nobody. Accounts are never deleted, and neither are these rows.';
comment on column credits.account_addresses.address is 'See credits.address_hashes.';
comment on column credits.account_addresses.account_id is 'credit_accounts.id.';
comment on column credits.account_addresses.successor_id is
'The account that the same person opened under this address after the user of account_id was deleted: it takes over '
'what that account owes. One for an account.';
comment on column credits.account_addresses.noted_at is 'When the address was first seen confirmed.';

-- sql/accounts/call_rates.sql
create table credits.call_rates (
  account_id uuid not null references public.credit_accounts (id),
  call text not null,
  minute timestamptz not null,
  calls integer not null,
  primary key (account_id, call)
)
with (fillfactor = 50);

alter table credits.call_rates enable row level security;
alter table credits.call_rates force row level security;
revoke all on table credits.call_rates from anon, authenticated, service_role;

comment on table credits.call_rates is
'How often an account has asked in the current minute for what is limited by the minute, refused calls included where '
'the refusal commits.';
comment on column credits.call_rates.call is
'checkout: a page of Stripe''s (billing_settings.max_checkouts_per_minute); generation: begin_generation '
'(max_generations_per_minute).';
comment on column credits.call_rates.minute is 'The minute that calls counts.';

-- sql/accounts/my_account_id.sql
create function credits.my_account_id() returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  select credits.account_of(auth.uid());
$$;

comment on function credits.my_account_id() is
'The account of the signed-in user, null when there is none. Policies call it as (select credits.my_account_id()), '
'once per query.';

grant execute on function credits.my_account_id() to authenticated;

-- sql/pricing/settings.sql
alter table credits.billing_settings
add column max_quantity integer not null default 10000,
add constraint max_quantity_must_be_1_to_1000000 check (max_quantity between 1 and 1000000);

comment on column credits.billing_settings.max_quantity is 'The largest quantity of one quote, spend or hold.';

-- sql/pricing/pricing_tiers.sql
create table public.pricing_tiers (
  id bigint generated always as identity primary key,
  operation text not null,
  provider text not null,
  model text not null,
  unit text not null default 'request',
  credits_per_unit numeric not null,
  effective_from timestamptz not null default now(),
  active boolean not null default true,
  metadata jsonb not null default '{}',
  version bigint not null,
  terms jsonb not null default '{}',
  constraint pricing_tiers_operation_effective_from_key unique (operation, effective_from),
  constraint operation_must_be_snake_case_of_1_to_63_letters check (operation ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint provider_must_have_1_to_100_characters check (char_length(btrim(provider)) between 1 and 100),
  constraint model_must_have_1_to_100_characters check (char_length(btrim(model)) between 1 and 100),
  constraint unit_must_have_1_to_30_characters check (char_length(btrim(unit)) between 1 and 30),
  -- NaN and Infinity are greater than every number, so the upper bound refuses them.
  constraint credits_per_unit_must_be_over_0_and_at_most_1000000 check (
    credits_per_unit > 0 and credits_per_unit <= 1000000
  ),
  constraint credits_per_unit_must_have_at_most_4_decimals check (scale(credits_per_unit) <= 4),
  constraint effective_from_must_be_a_real_time check (isfinite(effective_from)),
  constraint metadata_must_be_an_object_of_at_most_8_kib check (
    jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 8192
  ),
  -- Where they would not count.
  constraint deadline_seconds_and_charge_refusals_belong_in_terms check (
    not metadata ?| array['deadline_seconds', 'charge_refusals']
  )
);

alter table public.pricing_tiers enable row level security;
alter table public.pricing_tiers force row level security;
revoke all on table public.pricing_tiers from anon, authenticated, service_role;
revoke all on sequence public.pricing_tiers_id_seq from anon, authenticated, service_role;
grant select on table public.pricing_tiers to anon, authenticated, service_role, pricing_admin;
grant insert (operation, provider, model, unit, credits_per_unit, effective_from, active, metadata, terms)
on table public.pricing_tiers to pricing_admin;
grant update (operation, provider, model, unit, credits_per_unit, effective_from, active, metadata, terms)
on table public.pricing_tiers to pricing_admin;

comment on table public.pricing_tiers is
'Prices: what one unit of an operation costs, from when. DBAs insert and update rows; the price in force is the '
'active row with the latest effective_from that has come. Clients see the prices in force, one row per operation.';
comment on column public.pricing_tiers.operation is 'What the app sells and callers name, such as image_edit.';
comment on column public.pricing_tiers.provider is
'Who does the work, such as openai. The app''s routing, not the caller''s.';
comment on column public.pricing_tiers.model is 'The provider''s model. Change it when the provider retires one.';
comment on column public.pricing_tiers.unit is 'What quantity counts: image, second, request.';
comment on column public.pricing_tiers.credits_per_unit is
'Credits for one unit: over 0, at most 1,000,000, up to 4 decimals. A call costs ceil(credits_per_unit * quantity).';
comment on column public.pricing_tiers.effective_from is
'When the row starts to count; now when left out. Set in the future, it takes effect by itself.';
comment on column public.pricing_tiers.active is
'False takes the row out; an operation with no active row is not sold.';
comment on column public.pricing_tiers.metadata is
'A JSON object for the app, such as a picture for its shop. Nothing here reads it.';
comment on column public.pricing_tiers.terms is
'What a generation may ask for, and what that adds to credits_per_unit; see credits.check_terms.';
comment on column public.pricing_tiers.version is
'Set by the database, new with every change. Quotes, holds and ledger rows name it; credits.pricing_tier_history has '
'it.';

-- sql/pricing/pricing_tier_history.sql
create table credits.pricing_tier_history (
  version bigint generated by default as identity primary key,
  tier_id bigint not null,
  action text not null check (action in ('insert', 'update', 'delete')),
  changed_at timestamptz not null default clock_timestamp(),
  changed_by text not null default session_user,
  old jsonb,
  new jsonb
);

create index pricing_tier_history_tier_id on credits.pricing_tier_history (tier_id, version);

alter table credits.pricing_tier_history enable row level security;
alter table credits.pricing_tier_history force row level security;
revoke all on table credits.pricing_tier_history from anon, authenticated, service_role;
grant select on table credits.pricing_tier_history to pricing_admin;
create policy pricing_admin_reads on credits.pricing_tier_history for select to pricing_admin using (true);

comment on table credits.pricing_tier_history is
'Every change of a price: who, when, the row before and after. Written by a trigger; never changed.';
comment on column credits.pricing_tier_history.version is 'The price version that quotes, holds and ledger rows name.';
comment on column credits.pricing_tier_history.changed_by is 'The login that made the change.';
comment on column credits.pricing_tier_history.old is 'The pricing_tiers row before; null for an insert.';
comment on column credits.pricing_tier_history.new is 'The pricing_tiers row after; null for a delete.';

-- sql/pricing/offer_slug.sql
create domain credits.offer_slug as text
constraint slug_must_be_lower_case_words_of_1_to_63_letters check (value ~ '^[a-z][a-z0-9_-]{0,62}$');

comment on domain credits.offer_slug is
'What names a package or a plan in code and links.';

-- sql/pricing/offer_name.sql
create domain credits.offer_name as text
constraint name_must_have_1_to_100_characters check (char_length(btrim(value)) between 1 and 100);

comment on domain credits.offer_name is
'What people read of a package or a plan.';

-- sql/pricing/offer_credits.sql
create domain credits.offer_credits as bigint
constraint credits_must_be_1_to_1000000000 check (value between 1 and 1000000000);

comment on domain credits.offer_credits is
'Credits that one package, or one period of a plan, brings.';

-- sql/pricing/offer_amount.sql
create domain credits.offer_amount as bigint
constraint unit_amount_must_be_1_to_99999999_minor_units check (value between 1 and 99999999);

comment on domain credits.offer_amount is
'What a package, or a period of a plan, costs, in minor units of its currency: as much as Stripe takes.';

-- sql/pricing/offer_quantity.sql
create domain credits.offer_quantity as integer
constraint max_quantity_must_be_1_to_1000 check (value between 1 and 1000);

comment on domain credits.offer_quantity is
'How many of a package or a plan one checkout may buy.';

-- sql/pricing/stripe_price_id.sql
create domain credits.stripe_price_id as text
constraint stripe_price_id_must_start_with_price check (value ~ '^price_[A-Za-z0-9_]+$');

comment on domain credits.stripe_price_id is
'Stripe''s id of a Price.';

-- sql/pricing/credit_packages.sql
create table public.credit_packages (
  id bigint generated always as identity primary key,
  slug credits.offer_slug not null,
  name credits.offer_name not null,
  credits credits.offer_credits not null,
  unit_amount credits.offer_amount not null,
  currency credits.currency_code not null default 'usd',
  is_popular boolean not null default false,
  active boolean not null default true,
  stripe_price_id credits.stripe_price_id,
  max_quantity credits.offer_quantity,
  subscribers_only boolean not null default false,
  constraint credit_packages_slug_currency_key unique (slug, currency),
  constraint credit_packages_stripe_price_id_key unique (stripe_price_id)
);

alter table public.credit_packages enable row level security;
alter table public.credit_packages force row level security;
revoke all on table public.credit_packages from anon, authenticated, service_role;
revoke all on sequence public.credit_packages_id_seq from anon, authenticated, service_role;
grant select on table public.credit_packages to anon, authenticated, service_role, pricing_admin;
grant insert (
  slug, name, credits, unit_amount, currency, is_popular, active, stripe_price_id, max_quantity, subscribers_only
)
on table public.credit_packages to pricing_admin;
grant update (
  slug, name, credits, unit_amount, currency, is_popular, active, stripe_price_id, max_quantity, subscribers_only
)
on table public.credit_packages to pricing_admin;

create policy active_packages on public.credit_packages for select to anon, authenticated using (active);
create policy pricing_admin_edits on public.credit_packages for all to pricing_admin
using (true) with check (true);

comment on table public.credit_packages is
'What users can buy. DBAs insert and update rows, one per currency; clients see the active ones.';
comment on column public.credit_packages.slug is 'The package''s name in code and links; the same in each currency.';
comment on column public.credit_packages.name is 'The name that people read.';
comment on column public.credit_packages.credits is 'Credits that one package grants.';
comment on column public.credit_packages.unit_amount is 'Price in minor units of the currency: 499 is $4.99.';
comment on column public.credit_packages.currency is 'ISO 4217 code in lower case, as Stripe takes it.';
comment on column public.credit_packages.is_popular is 'Whether the shop marks it as the popular choice.';
comment on column public.credit_packages.active is 'False takes it out of the shop.';
comment on column public.credit_packages.stripe_price_id is 'The Stripe Price that sells it; null to price it inline.';
comment on column public.credit_packages.max_quantity is
'How many of it one checkout may buy; null for billing_settings.max_packages.';
comment on column public.credit_packages.subscribers_only is
'True sells it to accounts with a subscription that is trialing or active.';

-- sql/ledger/tables/settings.sql
alter table credits.billing_settings
add column max_grant bigint not null default 1000000000,
add column refund_grace interval not null default '30 days',
add column hold_ttl interval not null default '15 minutes',
add column hold_ttl_max interval not null default '24 hours',
add column max_holds_per_minute integer not null default 60,
add column max_open_holds integer not null default 100,
add column max_unused_holds integer not null default 1000,
add column hold_retention interval not null default '30 days',
add column settle_after interval not null default '1 hour',
add constraint hold_ttl_must_be_1_second_to_hold_ttl_max check (credits.lasts(hold_ttl, '1 second', hold_ttl_max)),
add constraint hold_ttl_max_must_be_2_minutes_to_30_days check (credits.lasts(hold_ttl_max, '2 minutes', '30 days')),
add constraint refund_grace_must_be_1_second_to_100_years check (credits.lasts(refund_grace, '1 second', '100 years')),
add constraint max_grant_must_be_1_to_1000000000000 check (max_grant between 1 and 1000000000000),
add constraint max_holds_per_minute_must_be_0_to_10000 check (max_holds_per_minute between 0 and 10000),
add constraint max_open_holds_must_be_0_to_10000 check (max_open_holds between 0 and 10000),
add constraint max_unused_holds_must_be_0_to_10000 check (max_unused_holds between 0 and 10000),
add constraint hold_retention_must_be_1_hour_to_100_years check (credits.lasts(hold_retention, '1 hour', '100 years')),
add constraint settle_after_must_be_0_to_1_day check (credits.lasts(settle_after, '0', '1 day'));

comment on column credits.billing_settings.max_grant is 'The largest single grant, in credits.';
comment on column credits.billing_settings.refund_grace is
'How long refunded credits live when the lot they came from has expired.';
comment on column credits.billing_settings.hold_ttl is 'How long a hold lives when its maker does not say. '
'Those of generations live as long as their job may, whatever it says.';
comment on column credits.billing_settings.hold_ttl_max is 'The longest hold that may be asked for, and the longest '
'that a generation may take. At least two minutes: a generation needs one and 45 seconds to begin with.';
comment on column credits.billing_settings.max_holds_per_minute is
'How many holds one account may make in any 60 seconds. Those of generations have their own limits.';
comment on column credits.billing_settings.max_open_holds is
'How many holds one account may have open at once, those of generations not counted.';
comment on column credits.billing_settings.max_unused_holds is
'How many holds that ended without a capture or a provider''s call are kept of one account: the newest.';
comment on column credits.billing_settings.hold_retention is
'How long a hold is kept that ended without a capture, and a generation that charged nothing.';
comment on column credits.billing_settings.settle_after is
'How long a ledger row waits for its settlement, where the account is not settled for another reason before: a grant, '
'an expiry, a whole batch of rows, the end of its day (UTC). What is read adds what waits, but credits.ledger_seals '
'lacks it.';

-- sql/ledger/tables/transaction_kind.sql
create type public.transaction_kind as enum (
  'grant', -- credits come in and make a lot
  'spend', -- consume_credits
  'capture', -- a hold is used
  'refund', -- credits of a spend, capture or clawback go back
  'clawback', -- granted credits are taken back, below zero if need be
  'expiry' -- what was left in a lot when it expired
);

comment on type public.transaction_kind is 'Why a balance changed. Grants and refunds add, the others take.';

-- sql/ledger/tables/hold_status.sql
create type public.hold_status as enum (
  'held', -- open; becomes one of the others, once
  'captured', -- used, wholly or in part
  'released', -- given back by release_hold
  'expired' -- its time ran out
);

comment on type public.hold_status is 'The life of a hold.';

-- sql/ledger/tables/grant_source.sql
create type public.grant_source as enum (
  'purchase', -- a package that was paid for
  'subscription', -- a period of a plan
  'bonus', -- promotional: given at sign-up
  'referral', -- promotional
  'promo', -- promotional
  'refund' -- credits that came back when their own lot had expired
);

comment on type public.grant_source is 'Where the credits of a lot came from.';

-- sql/ledger/tables/clawback_cause.sql
create type credits.clawback_cause as enum (
  'operator', -- a direct call of credits.claw_back
  'money_back', -- the payment of a purchase was refunded or disputed
  'downgrade', -- an invoice changed a plan for a smaller one
  'debt_taken_over', -- the debt of a deleted user's account, by its successor
  'debt_handed_back' -- from such an account, for the successor that took over its debt
);

comment on type credits.clawback_cause is 'Why granted credits were taken back.';

-- sql/ledger/tables/credit_transactions.sql
-- No CHECK, as in credit_accounts: each would be planned anew by every spend. Only the ledger's functions write here,
-- and verify_ledger holds each row against the rules.
create table public.credit_transactions (
  account_id uuid not null,
  id bigint not null,
  kind public.transaction_kind not null,
  amount bigint not null,
  balance_after bigint not null,
  operation text,
  quantity integer,
  unit_price numeric,
  price_version bigint,
  hold_id uuid,
  related_id bigint,
  actor text not null,
  idempotency_key text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null,
  -- Serves an account's history, too.
  constraint credit_transactions_pkey primary key (account_id, id)
);

create unique index credit_transactions_idempotency_key on public.credit_transactions (account_id, idempotency_key)
where idempotency_key is not null;
create unique index credit_transactions_hold_id on public.credit_transactions (account_id, hold_id)
where hold_id is not null;
create index credit_transactions_related_id on public.credit_transactions (account_id, related_id)
where related_id is not null;
-- For operators who read all accounts' rows of some time. Measured: 0.7 us more per INSERT, no more WAL, a thousandth
-- of the table's size.
create index credit_transactions_created_at on public.credit_transactions using brin (created_at);

alter table public.credit_transactions enable row level security;
alter table public.credit_transactions force row level security;
revoke all on table public.credit_transactions from anon, authenticated, service_role;
grant select on table public.credit_transactions to authenticated, service_role;
create policy own_transactions on public.credit_transactions for select to authenticated
using (account_id = (select credits.my_account_id()));

comment on table public.credit_transactions is
'The ledger: one row per change of a balance, append-only. Within an account, order by id: it is the order in which '
'they happened.';
comment on column public.credit_transactions.account_id is 'credit_accounts.id. Accounts are never deleted.';
comment on column public.credit_transactions.id is
'1, 2, 3 within the account, by credit_accounts.last_entry, without a gap. It names a row together with account_id '
'only.';
comment on column public.credit_transactions.amount is 'Credits, signed: what the balance changed by.';
comment on column public.credit_transactions.balance_after is 'The account''s balance after this row, in credits.';
comment on column public.credit_transactions.operation is 'What was bought; a refund repeats that of its transaction.';
comment on column public.credit_transactions.quantity is 'How many units were bought.';
comment on column public.credit_transactions.unit_price is 'Credits for one unit when it was priced.';
comment on column public.credit_transactions.price_version is 'The price: credits.pricing_tier_history.version.';
comment on column public.credit_transactions.hold_id is 'A capture''s credit_holds.id.';
comment on column public.credit_transactions.related_id is
'The transaction that a refund gives back, or the grant that a clawback takes back.';
comment on column public.credit_transactions.actor is
'Who asked: the API role, operator for a direct session, or system for maintenance. No personal data.';
comment on column public.credit_transactions.idempotency_key is
'The caller''s key, unique in the account, holds included.';
comment on column public.credit_transactions.metadata is 'The caller''s JSON object, at most 8 KiB.';

-- sql/ledger/tables/credit_holds.sql
create table public.credit_holds (
  account_id uuid not null references public.credit_accounts (id),
  id uuid not null default gen_random_uuid(),
  status public.hold_status not null default 'held',
  operation text not null,
  quantity integer not null,
  unit_price numeric not null,
  price_version bigint not null,
  amount bigint not null,
  expires_at timestamptz not null,
  transaction_id bigint,
  release_reason text,
  closed_at timestamptz,
  idempotency_key text,
  request_hash bytea,
  metadata jsonb not null default '{}',
  created_at timestamptz not null,
  constraint credit_holds_pkey primary key (account_id, id),
  constraint credit_holds_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint amount_must_be_unit_price_times_quantity check (amount = ceil(unit_price * quantity) and amount > 0),
  constraint expires_at_must_be_after_created_at check (expires_at > created_at),
  constraint open_holds_must_not_have_an_end check ((status = 'held') = (closed_at is null)),
  constraint captured_holds_must_name_their_transaction check ((status = 'captured') = (transaction_id is not null)),
  constraint idempotency_key_must_come_with_its_request check ((idempotency_key is null) = (request_hash is null)),
  constraint metadata_must_be_an_object check (jsonb_typeof(metadata) = 'object')
)
with (fillfactor = 80);

create index credit_holds_account_id on public.credit_holds (account_id, created_at desc);
create index credit_holds_open on public.credit_holds (account_id) where status = 'held';
-- What ended without a capture: the oldest of all, and the oldest of an account, go.
create index credit_holds_unused on public.credit_holds (closed_at) where status in ('released', 'expired');
create index credit_holds_unused_account_id on public.credit_holds (account_id, closed_at)
where status in ('released', 'expired');
create unique index credit_holds_idempotency_key on public.credit_holds (account_id, idempotency_key)
where idempotency_key is not null;

alter table public.credit_holds enable row level security;
alter table public.credit_holds force row level security;
revoke all on table public.credit_holds from anon, authenticated, service_role;
grant select on table public.credit_holds to authenticated, service_role;
create policy own_holds on public.credit_holds for select to authenticated
using (account_id = (select credits.my_account_id()));

comment on table public.credit_holds is
'Reservations of credits. A hold pins the price of its operation; capture_hold takes what was used, release_hold '
'gives all back, and past expires_at it is swept. One that ended without a capture is deleted after '
'billing_settings.hold_retention, or beyond max_unused_holds.';
comment on column public.credit_holds.quantity is 'Units reserved.';
comment on column public.credit_holds.unit_price is 'Credits for one unit, pinned when the hold was made.';
comment on column public.credit_holds.price_version is 'The pinned price: credits.pricing_tier_history.version.';
comment on column public.credit_holds.amount is 'Credits reserved: ceil(unit_price * quantity).';
comment on column public.credit_holds.expires_at is 'From then on it cannot be captured.';
comment on column public.credit_holds.transaction_id is 'The capture''s ledger row.';
comment on column public.credit_holds.closed_at is 'When it was captured, released or swept.';
comment on column public.credit_holds.idempotency_key is
'The caller''s key, unique in the account, transactions included.';
comment on column public.credit_holds.request_hash is 'SHA-256 of the request that came with the key.';
comment on column public.credit_holds.metadata is 'The caller''s JSON object, at most 8 KiB.';

-- sql/ledger/tables/credit_grants.sql
create table credits.credit_grants (
  account_id uuid not null references public.credit_accounts (id),
  id bigint not null,
  transaction_id bigint not null,
  amount bigint not null,
  remaining bigint not null,
  -- What the index of live lots asks for: it changes once, so that taking from a lot rewrites no index.
  is_live boolean not null generated always as (remaining > 0) stored,
  priority smallint not null default 50,
  expires_at timestamptz,
  source public.grant_source not null,
  cost_basis bigint,
  currency text,
  returned_from bigint,
  promotional boolean not null generated always as (source in ('bonus', 'referral', 'promo')) stored,
  created_at timestamptz not null,
  constraint credit_grants_pkey primary key (account_id, id),
  constraint credit_grants_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint credit_grants_returned_from_fkey foreign key (account_id, returned_from)
  references credits.credit_grants (account_id, id),
  constraint amount_must_be_positive check (amount > 0),
  constraint cost_basis_must_not_be_negative check (cost_basis >= 0),
  constraint currency_must_be_an_iso_4217_code_in_lower_case check (currency ~ '^[a-z]{3}$'),
  constraint a_cost_must_have_a_currency check (cost_basis = 0 or (cost_basis is null) = (currency is null)),
  constraint what_was_given_must_have_no_cost check (not promotional or cost_basis = 0),
  constraint remaining_must_be_0_to_amount check (remaining between 0 and amount),
  constraint priority_must_be_0_to_100 check (priority between 0 and 100),
  constraint expires_at_must_be_after_created_at check (expires_at > created_at and isfinite(expires_at))
)
with (fillfactor = 80);

create index credit_grants_live on credits.credit_grants (account_id) where is_live;
create index credit_grants_transaction_id on credits.credit_grants (account_id, transaction_id);

alter table credits.credit_grants enable row level security;
alter table credits.credit_grants force row level security;
revoke all on table credits.credit_grants from anon, authenticated, service_role;

comment on table credits.credit_grants is
'Lots: what each grant brought and what is left of it. As of the account''s last settlement; '
'credits.lots_as_of_now(account) tells it for this moment.';
comment on column credits.credit_grants.id is '1, 2, 3 within the account.';
comment on column credits.credit_grants.transaction_id is
'The grant''s ledger row, or the refund''s whose lot had expired.';
comment on column credits.credit_grants.amount is 'Credits at the start.';
comment on column credits.credit_grants.remaining is 'amount less the sum of its credit_allocations.';
comment on column credits.credit_grants.is_live is 'Whether something is left of it.';
comment on column credits.credit_grants.priority is '0 burns first, 100 last.';
comment on column credits.credit_grants.expires_at is 'From then on it cannot be spent; null for never.';
comment on column credits.credit_grants.source is 'Where the credits came from.';
comment on column credits.credit_grants.cost_basis is
'What was paid for all of the lot, net of tax, in minor units of currency: what using it earns. 0 for what was given; '
'null for unknown. Of what a refund gave back as a new lot: its share of what the expired lot had.';
comment on column credits.credit_grants.currency is
'ISO 4217 code in lower case; null where cost_basis is unknown, or 0 and none was named.';
comment on column credits.credit_grants.returned_from is
'The expired lot whose credits a refund gave back as this one.';
comment on column credits.credit_grants.promotional is
'Given, not paid for; burns before paid lots of the same priority and expiry.';

-- sql/ledger/tables/lot_payments.sql
create table credits.lot_payments (
  account_id uuid not null,
  -- No foreign keys: they would double the time of a settlement, and nothing that they point to is ever deleted.
  -- verify_ledger looks for payments that belong to nothing.
  grant_id bigint not null,
  first_id bigint not null,
  last_id bigint not null,
  first_amount bigint not null,
  last_amount bigint not null,
  number integer not null,
  is_late boolean not null default false,
  constraint lot_payments_pkey primary key (account_id, number),
  constraint amounts_must_be_positive check (first_amount > 0 and last_amount > 0),
  constraint last_id_must_not_be_before_first_id check (last_id >= first_id),
  constraint one_debit_must_have_one_amount check (first_id < last_id or first_amount = last_amount)
)
-- The newest of an account grows in place while the same lot goes on paying.
with (fillfactor = 80);

alter table credits.lot_payments enable row level security;
alter table credits.lot_payments force row level security;
revoke all on table credits.lot_payments from anon, authenticated, service_role;

comment on table credits.lot_payments is
'Which lot paid for which debits (spends, captures, clawbacks, expiries): one row per lot and run of consecutive '
'debits. The debits between the first and the last are paid by the lot wholly; those at the ends as far as the amounts '
'say, for the lots before and after pay the rest. Written by settlement; a debit that is not there yet is not settled, '
'or a debt. credits.credit_allocations has it debit by debit.';
comment on column credits.lot_payments.first_id is 'credit_transactions.id of the first debit.';
comment on column credits.lot_payments.last_id is
'That of the last. Grants and refunds between are no part of it.';
comment on column credits.lot_payments.first_amount is 'Credits that the lot paid for the first debit.';
comment on column credits.lot_payments.last_amount is
'Credits that it paid for the last; first_amount once more where they are one.';
comment on column credits.lot_payments.number is '1, 2, 3 within the account, in the order in which lots were taken.';
comment on column credits.lot_payments.is_late is
'Paid for one debit that had waited, a debt. Others stand around it that were paid before, so it does not grow.';

-- sql/ledger/tables/lot_returns.sql
create table credits.lot_returns (
  account_id uuid not null,
  transaction_id bigint not null,
  grant_id bigint not null,
  amount bigint not null,
  constraint lot_returns_pkey primary key (account_id, transaction_id, grant_id),
  constraint amount_must_be_positive check (amount > 0)
);

alter table credits.lot_returns enable row level security;
alter table credits.lot_returns force row level security;
revoke all on table credits.lot_returns from anon, authenticated, service_role;

comment on table credits.lot_returns is
'What refunds put back into the lots that had paid. What a refund puts into a new lot, because the lot that paid has '
'expired, is that lot''s amount.';
comment on column credits.lot_returns.transaction_id is 'The refund''s credit_transactions.id.';
comment on column credits.lot_returns.amount is 'Credits put back.';

-- sql/ledger/tables/credit_allocations.sql
create view credits.credit_allocations
with (security_invoker = true)
as
select
  p.account_id,
  t.id as transaction_id,
  p.grant_id,
  case t.id when p.first_id then p.first_amount when p.last_id then p.last_amount else -t.amount end as amount,
  p.number
from credits.lot_payments as p
inner join public.credit_transactions as t
  on p.account_id = t.account_id and t.id between p.first_id and p.last_id and t.amount < 0
union all
select
  r.account_id,
  r.transaction_id,
  r.grant_id,
  -r.amount as amount,
  null as number
from credits.lot_returns as r;

revoke all on table credits.credit_allocations from anon, authenticated, service_role;

comment on view credits.credit_allocations is
'Which lot paid for which transaction, in credits; negative where a refund put them back. number: the order in which '
'the account''s lots were taken. As of the last settlement: a transaction that is not there yet is not settled.';

-- sql/ledger/tables/clawbacks.sql
create table credits.clawbacks (
  account_id uuid not null,
  transaction_id bigint not null,
  cause credits.clawback_cause not null,
  purchase_id bigint,
  other_account_id uuid,
  constraint clawbacks_pkey primary key (account_id, transaction_id),
  constraint clawbacks_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint money_back_and_downgrades_must_name_a_purchase check (
    (cause in ('money_back', 'downgrade')) = (purchase_id is not null)
  ),
  constraint passed_debts_must_name_the_other_account check (
    (cause in ('debt_taken_over', 'debt_handed_back')) = (other_account_id is not null)
  )
);

create index clawbacks_purchase_id on credits.clawbacks (account_id, purchase_id, cause) where purchase_id is not null;

alter table credits.clawbacks enable row level security;
alter table credits.clawbacks force row level security;
revoke all on table credits.clawbacks from anon, authenticated, service_role;

comment on table credits.clawbacks is
'Why each clawback was made: one row for each ledger row of that kind. What is given back of one is a refund that '
'names it, so that its cause is this one.';
comment on column credits.clawbacks.transaction_id is 'credit_transactions.id of the clawback.';
comment on column credits.clawbacks.purchase_id is
'purchases.id: of money_back, what had been paid; of downgrade, the invoice that changed the plan.';
comment on column credits.clawbacks.other_account_id is
'credit_accounts.id: of a debt that was passed, the account at its other end.';

-- sql/ledger/tables/ledger_seals.sql
create table credits.ledger_seals (
  account_id uuid not null references public.credit_accounts (id),
  number integer not null,
  through_id bigint not null,
  format smallint not null,
  salt uuid,
  entries integer not null,
  hash bytea not null,
  sealed_at timestamptz not null,
  constraint ledger_seals_pkey primary key (account_id, number),
  constraint number_must_be_positive check (number > 0),
  constraint entries_must_be_positive check (entries > 0),
  constraint hash_must_be_sha_256 check (octet_length(hash) = 32)
);

alter table credits.ledger_seals enable row level security;
alter table credits.ledger_seals force row level security;
revoke all on table credits.ledger_seals from anon, authenticated, service_role;

comment on table credits.ledger_seals is
'Tamper evidence: for each account a chain of hashes over batches of its ledger rows. Made by credits.settle_batch, '
'verified by verify_ledger. Export the newest hash to another system and nobody can rewrite the past unseen.';
comment on column credits.ledger_seals.number is '1, 2, 3 within the account.';
comment on column credits.ledger_seals.through_id is
'The last ledger row of the batch; it begins after the previous seal''s.';
comment on column credits.ledger_seals.format is 'How its rows were written for the hash: see credits.seal_format.';
comment on column credits.ledger_seals.salt is
'What the salts of its rows'' texts are made from (credits.text_salt). Null where no row had any, or since one was '
'erased: see credits.sealed_texts.';
comment on column credits.ledger_seals.entries is 'Rows in the batch.';
comment on column credits.ledger_seals.hash is 'credits.seal_hash(previous hash, the digests of the batch''s rows).';

-- sql/ledger/tables/sealed_texts.sql
create table credits.sealed_texts (
  account_id uuid not null references public.credit_accounts (id),
  transaction_id bigint not null,
  salt bytea,
  digest bytea,
  erased_at timestamptz,
  erased_by text,
  constraint sealed_texts_pkey primary key (account_id, transaction_id),
  constraint sealed_texts_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint a_text_must_have_a_salt_or_be_erased check (num_nonnulls(salt, digest) = 1),
  constraint erased_texts_must_say_when_and_by_whom check (
    (digest is null) = (erased_at is null) and (digest is null) = (erased_by is null)
  )
);

alter table credits.sealed_texts enable row level security;
alter table credits.sealed_texts force row level security;
revoke all on table credits.sealed_texts from anon, authenticated, service_role;

comment on table credits.sealed_texts is
'What became of the texts (idempotency key, metadata) in seals of which one was erased. A seal covers a salted digest '
'of each row''s text, and has one salt from which those of its rows are made: that costs a spend nothing, and a '
'settlement 16 bytes. To erase a text, the seal''s salt is deleted. Its digest is written here, which tells nobody '
'what the text was and keeps the seal whole, and beside it the salts of the seal''s other rows with texts. '
'credits.erase_texts is the one who writes here.';
comment on column credits.sealed_texts.transaction_id is 'credit_transactions.id.';
comment on column credits.sealed_texts.salt is 'Of a text that is still there.';
comment on column credits.sealed_texts.digest is 'credits.text_digest of one that was erased.';
comment on column credits.sealed_texts.erased_at is 'When it was erased.';
comment on column credits.sealed_texts.erased_by is 'The session_user.';

-- sql/ledger/tables/operator_entries.sql
create table credits.operator_entries (
  account_id uuid not null,
  transaction_id bigint not null,
  login text not null default session_user,
  noted_at timestamptz not null default clock_timestamp(),
  constraint operator_entries_pkey primary key (account_id, transaction_id)
);

alter table credits.operator_entries enable row level security;
alter table credits.operator_entries force row level security;
revoke all on table credits.operator_entries from anon, authenticated, service_role;

comment on table credits.operator_entries is
'Which login wrote a ledger row whose actor is operator. Users read the ledger, and do not read this.';
comment on column credits.operator_entries.transaction_id is 'credit_transactions.id.';
comment on column credits.operator_entries.login is 'The session_user.';
comment on column credits.operator_entries.noted_at is 'When.';

-- sql/usage/settings.sql
alter table credits.billing_settings
add column max_time_zone_changes integer not null default 5,
add constraint max_time_zone_changes_must_be_0_to_1000 check (max_time_zone_changes between 0 and 1000);

comment on column credits.billing_settings.max_time_zone_changes is
'How often a user may change their time zone on one day (UTC): each change adds their usage up anew.';

-- sql/usage/account_zones.sql
create table credits.account_zones (
  account_id uuid not null references public.credit_accounts (id),
  zone text not null,
  changed_on date not null,
  changes integer not null default 1,
  constraint account_zones_pkey primary key (account_id),
  constraint changes_must_not_be_negative check (changes >= 0)
);

alter table credits.account_zones enable row level security;
alter table credits.account_zones force row level security;
revoke all on table credits.account_zones from anon, authenticated, service_role;

comment on table credits.account_zones is
'The time zone in which an account''s days are counted, one for all who read it; UTC for accounts without a row. Not '
'in credit_accounts, which each spend rewrites. Written under the account''s lock.';
comment on column credits.account_zones.zone is 'An IANA name: see credits.is_zone.';
comment on column credits.account_zones.changed_on is 'The day (UTC) of the last change.';
comment on column credits.account_zones.changes is
'How often its user changed it on that day, for billing_settings.max_time_zone_changes.';

-- sql/usage/account_zone.sql
create function credits.account_zone(account_id uuid) returns text
language sql
stable
set search_path = ''
as $$
  select coalesce(
    (select z.zone from credits.account_zones as z where z.account_id = account_zone.account_id), 'UTC'
  );
$$;

comment on function credits.account_zone(uuid) is 'The time zone in which the account''s days are counted.';

-- sql/usage/usage_days.sql
create table credits.usage_days (
  account_id uuid not null references public.credit_accounts (id),
  day date not null,
  price_version bigint not null,
  transactions bigint not null,
  quantity bigint not null,
  spent bigint not null,
  refunded bigint not null,
  refunded_of bigint not null,
  constraint usage_days_pkey primary key (account_id, day, price_version)
);

alter table credits.usage_days enable row level security;
alter table credits.usage_days force row level security;
revoke all on table credits.usage_days from anon, authenticated, service_role;

comment on table credits.usage_days is
'Spends, captures and refunds added up by account, day in the account''s time zone (credits.account_zones) and price, '
'which tells operation, provider and model. Kept by settlement, so it lacks what is not settled yet: '
'credits.usage_as_of_now has that, too.';
comment on column credits.usage_days.day is 'In the account''s time zone.';
comment on column credits.usage_days.price_version is
'credits.pricing_tier_history.version; of a refund that of the transaction which it gives back.';
comment on column credits.usage_days.transactions is 'Spends and captures.';
comment on column credits.usage_days.quantity is 'Units bought.';
comment on column credits.usage_days.spent is 'Credits spent.';
comment on column credits.usage_days.refunded is 'Credits refunded, on the day of the refund.';
comment on column credits.usage_days.refunded_of is
'Credits refunded of what was spent on this day, whenever that was.';

-- sql/usage/usage_of.sql
create function credits.usage_of(account_id uuid, zone text, after_id bigint, through_id bigint) returns table (
  day date,
  price_version bigint,
  transactions bigint,
  quantity bigint,
  spent bigint,
  refunded bigint,
  refunded_of bigint
)
language sql
stable
set search_path = ''
as $$
  with entry as materialized (
    select
      (t.created_at at time zone usage_of.zone)::date as day,
      t.kind,
      t.amount,
      t.quantity,
      t.price_version,
      t.related_id
    from public.credit_transactions as t
    -- As rows: the planner then takes the rows of the account in order, however many they are.
    where
      (t.account_id, t.id) > (usage_of.account_id, after_id)
      and (t.account_id, t.id) <= (usage_of.account_id, through_id)
  ),

  part as (
    select
      e.day,
      e.price_version,
      1 as transactions,
      e.quantity,
      -e.amount as spent,
      0::bigint as refunded,
      0::bigint as refunded_of
    from entry as e
    where e.price_version is not null
    union all
    select p.day, s.price_version, 0, 0, 0::bigint, p.refunded, p.refunded_of
    from entry as e
    inner join public.credit_transactions as s on s.account_id = usage_of.account_id and e.related_id = s.id
    cross join lateral (
      values (e.day, e.amount, 0::bigint), ((s.created_at at time zone usage_of.zone)::date, 0::bigint, e.amount)
    ) as p (day, refunded, refunded_of)
    where e.kind = 'refund' and s.price_version is not null
  )

  select
    p.day,
    p.price_version,
    sum(p.transactions)::bigint,
    sum(p.quantity)::bigint,
    sum(p.spent)::bigint,
    sum(p.refunded)::bigint,
    sum(p.refunded_of)::bigint
  from part as p
  group by p.day, p.price_version;
$$;

comment on function credits.usage_of(uuid, text, bigint, bigint) is
'What the account''s ledger rows after after_id up to through_id add to credits.usage_days, by day in the zone and '
'price. A refund counts twice: as refunded on its own day, and as refunded_of on that of its spend. One of a clawback '
'is no usage. credits.settle_batch adds the same up for many accounts at once; verify_ledger compares. What a chart '
'reads is credit_usage.';

-- sql/usage/usage_as_of_now.sql
create view credits.usage_as_of_now
with (security_invoker = true)
as
select
  u.account_id,
  u.day,
  u.price_version,
  u.transactions,
  u.quantity,
  u.spent,
  u.refunded,
  u.refunded_of
from credits.usage_days as u
union all
select
  a.id as account_id,
  u.day,
  u.price_version,
  u.transactions,
  u.quantity,
  u.spent,
  u.refunded,
  u.refunded_of
from public.credit_accounts as a
cross join lateral credits.usage_of(a.id, credits.account_zone(a.id), a.settled_through, a.last_entry) as u
where a.last_entry > a.settled_through;

revoke all on table credits.usage_as_of_now from anon, authenticated, service_role;

comment on view credits.usage_as_of_now is
'credits.usage_days and, in rows of their own, what is not settled yet: add them up.';

-- sql/usage/daily_usage.sql
create view credits.daily_usage
with (security_invoker = true)
as
select
  u.account_id,
  u.day,
  h.new ->> 'operation' as operation,
  h.new ->> 'provider' as provider,
  h.new ->> 'model' as model,
  sum(u.transactions)::bigint as transactions,
  sum(u.quantity)::bigint as quantity,
  sum(u.spent)::bigint as spent,
  sum(u.refunded)::bigint as refunded,
  sum(u.refunded_of)::bigint as refunded_of
from credits.usage_as_of_now as u
left join credits.pricing_tier_history as h on u.price_version = h.version
group by u.account_id, u.day, h.new ->> 'operation', h.new ->> 'provider', h.new ->> 'model';

revoke all on table credits.daily_usage from anon, authenticated, service_role;

comment on view credits.daily_usage is
'For operators: usage by account, day in the account''s time zone, operation, provider and model, in credits and '
'units, as of now. refunded: on the day of the refund; refunded_of: of what was spent on this day, whenever that was.';

-- sql/usage/usage_logs.sql
create table credits.usage_logs (
  account_id uuid not null references public.credit_accounts (id),
  id bigint not null,
  provider text not null,
  model text not null,
  operation text not null,
  units numeric not null,
  latency_ms integer,
  status text not null,
  provider_cost numeric,
  hold_id uuid,
  transaction_id bigint,
  created_at timestamptz not null default clock_timestamp(),
  tokens jsonb,
  constraint usage_logs_pkey primary key (account_id, id),
  constraint usage_logs_hold_id_fkey foreign key (account_id, hold_id)
  references public.credit_holds (account_id, id) on delete set null (hold_id),
  constraint usage_logs_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint units_must_not_be_negative check (units >= 0 and units < 'infinity'),
  constraint latency_ms_must_not_be_negative check (latency_ms >= 0),
  constraint status_must_be_known check (status in ('succeeded', 'partial', 'refused', 'failed', 'unknown')),
  constraint provider_cost_must_not_be_negative check (provider_cost >= 0 and provider_cost < 'infinity')
);

create index usage_logs_hold_id on credits.usage_logs (account_id, hold_id) where hold_id is not null;
create index usage_logs_transaction_id on credits.usage_logs (account_id, transaction_id)
where transaction_id is not null;

alter table credits.usage_logs enable row level security;
alter table credits.usage_logs force row level security;
revoke all on table credits.usage_logs from anon, authenticated, service_role;
-- For the view public.usage_logs. What providers cost is nobody's to see but the operator's, in SQL.
grant select (
  account_id, id, provider, model, operation, units, latency_ms, status, hold_id, transaction_id, created_at
) on credits.usage_logs to authenticated, service_role;
create policy own_usage on credits.usage_logs for select to authenticated
using (account_id = (select credits.my_account_id()));

comment on table credits.usage_logs is
'One row per provider call. No prompt, no output, no personal data. Users see their own in public.usage_logs, without '
'what providers cost.';
comment on column credits.usage_logs.id is '1, 2, 3 within the account.';
comment on column credits.usage_logs.units is 'What the provider delivered, in the price''s unit.';
comment on column credits.usage_logs.latency_ms is 'From the request to the last byte, milliseconds.';
comment on column credits.usage_logs.status is
'succeeded, partial (fewer units than asked), refused (by the provider''s policy), failed, unknown (no answer came).';
comment on column credits.usage_logs.provider_cost is 'What the provider charges for the call, US dollars.';
comment on column credits.usage_logs.tokens is
'What the provider counted, where it tells: {input_text, input_image, output_text, output_image}.';
comment on column credits.usage_logs.hold_id is
'The hold that the call ran under; null once that was deleted, which only happens to holds that charged nothing.';
comment on column credits.usage_logs.transaction_id is 'The spend or capture that paid for it.';

-- sql/usage/own_usage_logs.sql
create view public.usage_logs
with (security_invoker = true)
as
select
  id,
  account_id,
  operation,
  provider,
  model,
  units,
  latency_ms,
  status,
  hold_id,
  transaction_id,
  created_at
from credits.usage_logs;

revoke all on table public.usage_logs from anon, authenticated, service_role;
grant select on table public.usage_logs to authenticated, service_role;

comment on view public.usage_logs is
'The signed-in user''s provider calls, one row each: credits.usage_logs without what they cost us. For service_role, '
'everybody''s.';

-- sql/generation/settings.sql
alter table credits.billing_settings
add column max_generations_per_minute integer not null default 60,
add column max_generations_in_flight integer not null default 10,
add column max_input_files integer not null default 100,
add column max_input_bytes bigint not null default 200000000,
add column input_retention interval not null default '7 days',
add column orphan_retention interval not null default '1 day',
add constraint max_generations_per_minute_must_be_0_or_more check (max_generations_per_minute >= 0),
add constraint max_generations_in_flight_must_be_0_or_more check (max_generations_in_flight >= 0),
add constraint max_input_files_must_be_0_or_more check (max_input_files >= 0),
add constraint max_input_bytes_must_be_0_or_more check (max_input_bytes >= 0),
add constraint input_retention_must_be_an_hour_or_more check (input_retention >= '1 hour'),
add constraint orphan_retention_must_be_an_hour_or_more check (orphan_retention >= '1 hour');

comment on column credits.billing_settings.max_generations_per_minute is
'How many generations one account may ask for in a minute, refused ones included.';
comment on column credits.billing_settings.max_generations_in_flight is
'How many generations of one account may be under way at once.';
comment on column credits.billing_settings.max_input_files is
'How many files one account may have below inputs/ in the bucket generations. The newest beyond it are swept.';
comment on column credits.billing_settings.max_input_bytes is
'How many bytes these files may have together. The newest beyond it are swept.';
comment on column credits.billing_settings.input_retention is
'How old a file below inputs/ gets before it is swept. At least an hour.';
comment on column credits.billing_settings.orphan_retention is
'How long the files of a job that is over stay when they are not its outputs, before they are swept. At least an hour.';

-- sql/generation/generation_status.sql
create type public.generation_status as enum (
  'held', -- credits are reserved; no provider was asked yet
  'dispatched', -- a provider is being asked: from here on it may cost money
  'running', -- the provider works on it and gave it an id
  'unknown', -- it may or may not have reached the provider
  'succeeded', -- final: delivered and charged, wholly or in part
  'refused', -- final: against the provider's policy
  'failed', -- final: nothing was delivered
  'canceled', -- final: the user took it back in time
  'expired' -- final: its deadline passed; what the provider took for it is our loss
);

comment on type public.generation_status is 'The life of a generation job.';

-- sql/generation/generation_jobs.sql
create table public.generation_jobs (
  account_id uuid not null references public.credit_accounts (id),
  id uuid not null default gen_random_uuid(),
  hold_id uuid not null,
  status public.generation_status not null default 'held',
  operation text not null,
  provider text not null,
  model text not null,
  quantity integer not null,
  options jsonb not null default '{}',
  request text,
  provider_job_id text,
  leased_by uuid,
  leased_until timestamptz,
  outputs jsonb not null default '[]',
  error jsonb,
  transaction_id bigint,
  cancel_requested_at timestamptz,
  dispatched_at timestamptz,
  deadline_at timestamptz not null,
  finished_at timestamptz,
  created_at timestamptz not null,
  constraint generation_jobs_pkey primary key (account_id, id),
  constraint generation_jobs_hold_id_key unique (account_id, hold_id),
  constraint generation_jobs_hold_id_fkey foreign key (account_id, hold_id)
  references public.credit_holds (account_id, id),
  constraint generation_jobs_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint final_jobs_must_have_an_end check (
    (status in ('succeeded', 'refused', 'failed', 'canceled', 'expired')) = (finished_at is not null)
  ),
  constraint request_must_be_sha_256 check (request ~ '^[0-9a-f]{64}$'),
  constraint outputs_must_be_an_array check (jsonb_typeof(outputs) = 'array'),
  constraint provider_job_id_must_have_1_to_500_characters check (char_length(provider_job_id) between 1 and 500)
)
with (fillfactor = 70);

create index generation_jobs_account_id on public.generation_jobs (account_id, created_at desc);
-- Serves what looks for deadlines, too: open jobs are few, and without an index on what a dispatch changes its UPDATE
-- keeps off the indexes (HOT).
create index generation_jobs_open on public.generation_jobs (account_id) where finished_at is null;
create index generation_jobs_transaction_id on public.generation_jobs (account_id, transaction_id)
where transaction_id is not null;

alter table public.generation_jobs enable row level security;
alter table public.generation_jobs force row level security;
revoke all on table public.generation_jobs from anon, authenticated, service_role;
grant select on table public.generation_jobs to authenticated, service_role;
create policy own_jobs on public.generation_jobs for select to authenticated
using (account_id = (select credits.my_account_id()));

comment on table public.generation_jobs is
'One row per request for images, text or video: reservation, provider, outcome. No prompt is kept. Written by '
'begin_generation, decline_generation, dispatch_generation, note_generation, lease_generations, release_generations, '
'finish_generation, cancel_generation and the sweep.';
comment on column public.generation_jobs.hold_id is 'credit_holds.id: the reservation, and whose key makes it once.';
comment on column public.generation_jobs.provider is 'Of the price in force when it began.';
comment on column public.generation_jobs.quantity is 'Outputs asked for.';
comment on column public.generation_jobs.options is
'What the provider is asked with: the request''s options, and the defaults of its price''s terms.';
comment on column public.generation_jobs.request is
'SHA-256 in hex of what was asked for, prompt and images included; null since it was erased.';
comment on column public.generation_jobs.provider_job_id is 'The provider''s id, by which it can be asked about.';
comment on column public.generation_jobs.leased_by is
'The process that sees to the provider''s work. Another takes it over when it no longer says that it is alive.';
comment on column public.generation_jobs.leased_until is 'Until then no other process takes it over.';
comment on column public.generation_jobs.outputs is
'What was delivered: [{path, mime_type, width, height}], paths in the Storage bucket generations.';
comment on column public.generation_jobs.error is 'Why nothing was delivered: {status, code, message}.';
comment on column public.generation_jobs.transaction_id is 'The capture that charged it.';
comment on column public.generation_jobs.dispatched_at is
'Committed before the provider is asked, so that no call goes unnoticed.';
comment on column public.generation_jobs.deadline_at is 'Past it the sweep ends the job and its hold.';

-- sql/maintenance/maintenance_task.sql
create type credits.maintenance_task as enum (
  'settlement',
  'generations',
  'holds',
  'allotments',
  'stripe_payloads',
  'unclaimed_payments'
);

comment on type credits.maintenance_task is
'What credits.run_maintenance does, in this order: of each task the function credits.sweep_TASK(batch integer), which '
'stands with the rest of its domain. The settlement is first, while no other lock is held that it could be waited for.';

-- sql/maintenance/maintenance_failures.sql
create table credits.maintenance_failures (
  id bigint generated always as identity primary key,
  task credits.maintenance_task not null,
  -- No foreign key: it would wait for the account's lock, which may be what failed. Accounts are never deleted.
  account_id uuid,
  job_id uuid,
  sqlstate text not null,
  message text,
  failures integer not null default 1,
  first_at timestamptz not null,
  last_at timestamptz not null,
  retry_at timestamptz not null,
  constraint maintenance_failures_task_account_id_job_id_key unique nulls not distinct (task, account_id, job_id),
  constraint failures_must_be_positive check (failures > 0)
);

create index maintenance_failures_account_id on credits.maintenance_failures (account_id);

alter table credits.maintenance_failures enable row level security;
alter table credits.maintenance_failures force row level security;
revoke all on table credits.maintenance_failures from anon, authenticated, service_role;

comment on table credits.maintenance_failures is
'What maintenance could not do, until it can: an account that cannot be settled, a job that cannot be ended, or a '
'sweep as a whole. Operators read it with maintenance_report(). Delete a row to have it tried at once.';
comment on column credits.maintenance_failures.task is 'What credits.run_maintenance was at.';
comment on column credits.maintenance_failures.account_id is 'Whose; null for a sweep as a whole.';
comment on column credits.maintenance_failures.job_id is 'Of generations: the job, generation_jobs.id.';
comment on column credits.maintenance_failures.sqlstate is 'Postgres''s code of the last failure.';
comment on column credits.maintenance_failures.message is
'Postgres''s sentence of the last failure. Null where it could quote what a user wrote: the server''s log has it.';
comment on column credits.maintenance_failures.failures is 'How often it failed so far.';
comment on column credits.maintenance_failures.first_at is 'When it failed first.';
comment on column credits.maintenance_failures.last_at is 'When it failed last.';
comment on column credits.maintenance_failures.retry_at is
'Not tried before: ten seconds after the first failure, then twice as long each time, up to an hour.';

-- sql/generation/file_sweep.sql
create table credits.file_sweep (
  id boolean primary key default true,
  leased_by uuid,
  leased_until timestamptz,
  after text,
  swept_at timestamptz,
  constraint only_one_row check (id)
);

insert into credits.file_sweep default values;

alter table credits.file_sweep enable row level security;
alter table credits.file_sweep force row level security;
revoke all on table credits.file_sweep from anon, authenticated, service_role;

comment on table credits.file_sweep is 'How far sweep_files has come in the bucket generations: exactly one row.';
comment on column credits.file_sweep.id is 'Always true: there is one row.';
comment on column credits.file_sweep.leased_by is 'The process that sweeps.';
comment on column credits.file_sweep.leased_until is 'Until then no other process goes on with it.';
comment on column credits.file_sweep.after is 'The last name that was looked at; null between two sweeps.';
comment on column credits.file_sweep.swept_at is 'When a sweep last came to the end of the bucket.';

-- sql/generation/provider_costs.sql
create table credits.provider_costs (
  provider text not null,
  model text not null,
  cost_per_output numeric,
  cost_per_second numeric,
  input_text numeric,
  input_image numeric,
  output_text numeric,
  output_image numeric,
  constraint provider_costs_pkey primary key (provider, model),
  constraint cost_per_output_must_be_0_to_1000000 check (cost_per_output between 0 and 1000000),
  constraint cost_per_second_must_be_0_to_1000000 check (cost_per_second between 0 and 1000000),
  constraint costs_of_tokens_must_be_0_to_1000000 check (
    least(input_text, input_image, output_text, output_image) >= 0
    and greatest(input_text, input_image, output_text, output_image) <= 1000000
  )
);

alter table credits.provider_costs enable row level security;
alter table credits.provider_costs force row level security;
revoke all on table credits.provider_costs from anon, authenticated, service_role;
grant select, insert, update on table credits.provider_costs to pricing_admin;
create policy pricing_admin_edits on credits.provider_costs for all to pricing_admin
using (true) with check (true);

comment on table credits.provider_costs is
'What providers charge us, for the margin report, US dollars. DBAs insert and update rows; clients never see them. '
'What a call cost is its tokens at these prices where the provider counts them; else by the second, else by the '
'output.';
comment on column credits.provider_costs.provider is 'pricing_tiers.provider.';
comment on column credits.provider_costs.model is 'pricing_tiers.model.';
comment on column credits.provider_costs.cost_per_output is
'For one image, text or video. Counts where a call''s own cost is not known, such as when no answer came.';
comment on column credits.provider_costs.cost_per_second is
'For one second of video: times the job''s option duration.';
comment on column credits.provider_costs.input_text is 'For a million tokens of text that the provider was sent.';
comment on column credits.provider_costs.input_image is 'For a million tokens of images that the provider was sent.';
comment on column credits.provider_costs.output_text is 'For a million tokens of text that it made, thoughts included.';
comment on column credits.provider_costs.output_image is 'For a million tokens of images that it made.';

-- sql/generation/generation_margins.sql
create view credits.generation_margins
with (security_invoker = true)
as
select
  u.operation,
  u.provider,
  u.model,
  date_trunc('day', u.created_at, 'UTC') as day,
  count(*) as calls,
  sum(u.units) as units,
  coalesce(-sum(t.amount), 0) as credits,
  coalesce(sum(u.provider_cost), 0) as provider_cost,
  coalesce(sum(u.provider_cost) filter (where u.transaction_id is null), 0) as lost_cost,
  coalesce(-sum(t.amount), 0) / nullif(sum(u.provider_cost), 0) as credits_per_dollar
from credits.usage_logs as u
left join public.credit_transactions as t on u.account_id = t.account_id and u.transaction_id = t.id
group by u.operation, u.provider, u.model, day;

revoke all on table credits.generation_margins from anon, authenticated, service_role;

comment on view credits.generation_margins is
'Revenue against cost by operation, provider, model and UTC day: credits charged, what the providers took in US '
'dollars, how much of that nobody paid for (lost_cost), and credits earned for each dollar.';

-- sql/generation/generation_failures.sql
create view credits.generation_failures
with (security_invoker = true)
as
select
  j.operation,
  j.provider,
  j.model,
  j.error ->> 'code' as failure,
  date_trunc('day', j.finished_at, 'UTC') as day,
  count(*) as jobs,
  max(j.finished_at) as last_at
from public.generation_jobs as j
where j.error is not null and j.status <> 'canceled'
group by j.operation, j.provider, j.model, failure, day;

revoke all on table credits.generation_failures from anon, authenticated, service_role;

comment on view credits.generation_failures is
'Jobs that ended without an output, by why (the code of the answer), operation, provider, model and UTC day. For an '
'operator to act on: model_gone, provider_quota, provider_key, not_set_up. For the provider: provider_busy, '
'provider_down, no_output, deadline. For the user: refused, provider_rejected.';

-- sql/payments/tables/settings.sql
alter table credits.billing_settings
add column late_grant_grace interval not null default '30 days',
add column default_currency credits.currency_code not null default 'usd',
add column max_packages integer not null default 10,
add column max_free_packages integer not null default 1,
add column allow_promotion_codes boolean not null default false,
add column max_checkouts_per_minute integer not null default 20,
add column refund_second_subscriptions boolean not null default true,
add column automatic_tax boolean not null default false,
add column tax_id_collection boolean not null default false,
add column billing_address_collection text not null default 'auto',
add column stripe_livemode boolean not null default false,
add column stripe_account text,
add column stripe_payload_retention interval not null default '90 days',
add column freeze_on_fraud_warning boolean not null default false,
add constraint late_grant_grace_must_be_0_to_10_years check (credits.lasts(late_grant_grace, '0', '10 years')),
add constraint max_packages_must_be_1_to_1000 check (max_packages between 1 and 1000),
add constraint max_free_packages_must_be_1_to_1000 check (max_free_packages between 1 and 1000),
add constraint max_checkouts_per_minute_must_be_0_or_more check (max_checkouts_per_minute >= 0),
add constraint billing_address_collection_must_be_auto_or_required check (
  billing_address_collection in ('auto', 'required')
),
add constraint stripe_account_must_start_with_acct check (stripe_account ~ '^acct_[A-Za-z0-9_]+$'),
add constraint stripe_payload_retention_must_be_1_second_to_100_years check (
  credits.lasts(stripe_payload_retention, '1 second', '100 years')
);

comment on column credits.billing_settings.late_grant_grace is
'How long the credits of a subscription''s newest period live when its payment is heard of after the period is over; 0 '
'for not at all. Those of periods before it expire at once, as they would have in time.';
comment on column credits.billing_settings.default_currency is 'The currency of a checkout that names none.';
comment on column credits.billing_settings.max_packages is
'How many of one package a checkout may buy, where credit_packages.max_quantity does not say.';
comment on column credits.billing_settings.max_free_packages is
'How many packages, or units of a plan, are granted at most where there is nothing to pay, as with a promotion code of '
'100 percent.';
comment on column credits.billing_settings.allow_promotion_codes is
'Whether Stripe''s checkout page takes promotion codes.';
comment on column credits.billing_settings.max_checkouts_per_minute is
'How many pages of Stripe''s, to pay on or of the billing portal, one account may open in a minute.';
comment on column credits.billing_settings.refund_second_subscriptions is
'Whether the payments of a second subscription, which is cancelled, are refunded at once (true) or by the operator.';
comment on column credits.billing_settings.automatic_tax is
'Whether Stripe Tax calculates taxes at checkout. It needs tax settings in Stripe.';
comment on column credits.billing_settings.tax_id_collection is
'Whether Stripe''s checkout page asks businesses for their tax id.';
comment on column credits.billing_settings.billing_address_collection is
'auto: Stripe''s checkout page asks for an address where it needs one; required: always.';
comment on column credits.billing_settings.stripe_livemode is
'Whether Stripe''s live events count (true) or its test events (false); the others are quarantined.';
comment on column credits.billing_settings.stripe_account is
'The connected account (acct_…) whose events count; null for the platform''s own.';
comment on column credits.billing_settings.stripe_payload_retention is
'How long the payloads of Stripe''s events are kept, and what is noted of events that were ignored.';
comment on column credits.billing_settings.freeze_on_fraud_warning is
'Whether a card issuer''s early fraud warning freezes the account that paid, until an operator unfreezes it. False '
'notes it only. It counts when the warning comes: what was noted before freezes nothing later.';

-- sql/payments/tables/stripe_event_status.sql
create type credits.stripe_event_status as enum (
  'applied', -- its effects are in the same transaction as its row
  'ignored', -- none of our business
  'quarantined', -- not what this project may read: wrong mode, account or version, or unreadable; kept for a person
  'failed', -- read, but a rule refused its effects; tried again by Stripe's retries and by retry_stripe_events
  'dismissed' -- was quarantined or failed; a person decided that it shall have no effect. Final
);

comment on type credits.stripe_event_status is 'What became of a Stripe event.';

-- sql/payments/tables/purchase_status.sql
create type public.purchase_status as enum (
  'pending', -- checked out, money under way
  'failed', -- the payment failed; an invoice can still be paid
  'expired', -- abandoned, or its invoice was given up
  'paid' -- final: its credits are granted
);

comment on type public.purchase_status is
'The state of a payment. The order is that of knowledge: a later message only ever raises it.';

-- sql/payments/tables/refund_stage.sql
create type credits.refund_stage as enum (
  'unknown', -- Stripe has a word for it that is newer than this list; it counts as money that went
  'pending',
  'requires_action',
  'succeeded',
  'failed', -- also after it had succeeded
  'canceled'
);

comment on type credits.refund_stage is
'How far a refund has come. The order is that of knowledge: a later message only ever raises it.';

-- sql/payments/tables/dispute_stage.sql
create type credits.dispute_stage as enum (
  'unknown', -- Stripe has a word for it that is newer than this list
  'warning_needs_response', -- an inquiry
  'warning_under_review',
  'warning_closed',
  'needs_response',
  'under_review',
  'prevented', -- no chargeback came of it
  'lost',
  'won'
);

comment on type credits.dispute_stage is
'How far a dispute has come. The order is that of knowledge: a later message only ever raises it.';

-- sql/payments/tables/money_movement.sql
create type credits.money_movement as enum (
  'payment', -- a charge
  'payment_failure', -- a charge that failed after it had been booked
  'refund',
  'refund_failure', -- the money of a refund comes back
  'dispute' -- withdrawn (amount below 0) or reinstated
);

comment on type credits.money_movement is 'What a balance transaction of Stripe''s moved money for.';

-- sql/payments/tables/stripe_customers.sql
create table credits.stripe_customers (
  customer_id text primary key,
  account_id uuid references public.credit_accounts (id),
  email_hash bytea,
  deleted_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  constraint customer_id_must_start_with_cus check (customer_id ~ '^cus_[A-Za-z0-9_]+$'),
  constraint deleted_customers_must_have_no_account check ((deleted_at is null) = (account_id is not null))
);

create unique index stripe_customers_account_id on credits.stripe_customers (account_id);
create index stripe_customers_deleted_at on credits.stripe_customers (deleted_at) where deleted_at is not null;

alter table credits.stripe_customers enable row level security;
alter table credits.stripe_customers force row level security;
revoke all on table credits.stripe_customers from anon, authenticated, service_role;

comment on table credits.stripe_customers is
'Which Stripe customer pays for which account: at most one per account. A deleted customer stays as a row with no '
'account for credits.unclaimed_retention, so that a late message cannot link it again.';
comment on column credits.stripe_customers.customer_id is 'Stripe''s cus_… id.';
comment on column credits.stripe_customers.account_id is 'credit_accounts.id.';
comment on column credits.stripe_customers.email_hash is
'SHA-256 of the e-mail address that Stripe has of it; null where we do not know.';
comment on column credits.stripe_customers.deleted_at is 'When we heard that Stripe deleted the customer.';

-- sql/payments/tables/stripe_events.sql
create table credits.stripe_events (
  id text primary key,
  type text not null,
  api_version text,
  status credits.stripe_event_status not null,
  reason text,
  payload jsonb,
  attempts integer not null default 1,
  received_at timestamptz not null default clock_timestamp(),
  processed_at timestamptz not null default clock_timestamp(),
  dismissed_why text,
  dismissed_at timestamptz,
  constraint unapplied_events_must_give_a_reason check ((status = 'applied') = (reason is null)),
  constraint dismissed_events_must_say_why_and_when check (
    (status = 'dismissed') = (dismissed_why is not null) and (dismissed_why is null) = (dismissed_at is null)
  ),
  constraint dismissed_why_must_have_1_to_1000_characters check (char_length(btrim(dismissed_why)) between 1 and 1000)
);

-- What is to be tried again, the longest waiting first.
create index stripe_events_unapplied on credits.stripe_events (processed_at)
where status in ('quarantined', 'failed') and payload is not null;
create index stripe_events_problems on credits.stripe_events (received_at, id)
where status in ('quarantined', 'failed');
-- What there is to forget: one index for both, because each is a price of every event.
create index stripe_events_to_forget on credits.stripe_events (received_at)
where payload is not null or status = 'ignored';

alter table credits.stripe_events enable row level security;
alter table credits.stripe_events force row level security;
revoke all on table credits.stripe_events from anon, authenticated, service_role;

comment on table credits.stripe_events is
'Every Stripe event that was received, once, with what became of it. The row and the event''s effects are one '
'transaction. What was ignored is forgotten after billing_settings.stripe_payload_retention.';
comment on column credits.stripe_events.id is 'Stripe''s evt_… id.';
comment on column credits.stripe_events.type is 'Such as checkout.session.completed.';
comment on column credits.stripe_events.api_version is 'The version that the payload is written in.';
comment on column credits.stripe_events.reason is
'Why it is ignored, quarantined or failed, or was when it was dismissed.';
comment on column credits.stripe_events.payload is
'The event as Stripe sent it; null for what was ignored, and after billing_settings.stripe_payload_retention.';
comment on column credits.stripe_events.attempts is 'How often its effects were tried.';
comment on column credits.stripe_events.dismissed_why is 'Why a person decided that it shall have no effect.';
comment on column credits.stripe_events.dismissed_at is 'When they did.';

-- sql/payments/tables/stripe_objects.sql
create table credits.stripe_objects (
  id text primary key,
  account_id uuid not null,
  purchase_id bigint
);

alter table credits.stripe_objects enable row level security;
alter table credits.stripe_objects force row level security;
revoke all on table credits.stripe_objects from anon, authenticated, service_role;

comment on table credits.stripe_objects is
'Whose an object of Stripe''s is: its id is there once, where the tables that hold what it says have it once '
'per account. No foreign key, so that the tables of an account can lie elsewhere.';
comment on column credits.stripe_objects.id is
'Stripe''s id of a Checkout session, an invoice or a subscription. Payments have stripe_payments, customers '
'stripe_customers.';
comment on column credits.stripe_objects.account_id is 'credit_accounts.id.';
comment on column credits.stripe_objects.purchase_id is
'purchases.id within the account, of a session that sold a package, and of an invoice.';

-- sql/payments/tables/stripe_payments.sql
create table credits.stripe_payments (
  payment_intent_id text primary key,
  invoice_id text,
  account_id uuid,
  purchase_id bigint,
  refunded bigint not null default 0,
  receipt_url text,
  received_at timestamptz not null default credits.now(),
  constraint refunded_must_be_0_or_more check (refunded >= 0),
  constraint a_purchase_must_have_an_account check ((account_id is null) = (purchase_id is null))
);

create index stripe_payments_invoice_id on credits.stripe_payments (invoice_id) where invoice_id is not null;
create index stripe_payments_purchase_id on credits.stripe_payments (account_id, purchase_id)
where purchase_id is not null;
create index stripe_payments_unclaimed on credits.stripe_payments (received_at) where purchase_id is null;

alter table credits.stripe_payments enable row level security;
alter table credits.stripe_payments force row level security;
revoke all on table credits.stripe_payments from anon, authenticated, service_role;

comment on table credits.stripe_payments is
'What Stripe tells of a payment intent apart from the purchase that it pays, kept whether or not that is known yet; '
'where it never is, for credits.unclaimed_retention. What names a payment has it here: refunds, disputes, warnings.';
comment on column credits.stripe_payments.invoice_id is
'The invoice that it pays. An invoice does not name its payments; invoice_payment objects do.';
comment on column credits.stripe_payments.account_id is 'Whose purchase it pays, once known.';
comment on column credits.stripe_payments.purchase_id is 'purchases.id within the account, once known.';
comment on column credits.stripe_payments.refunded is
'The highest total of refunds that a charge of it has told, in minor units.';
comment on column credits.stripe_payments.receipt_url is 'Stripe''s page of the receipt of a charge that succeeded.';
comment on column credits.stripe_payments.received_at is 'When it was first told of.';

-- sql/payments/tables/stripe_refunds.sql
create table credits.stripe_refunds (
  id text primary key,
  payment_intent_id text not null,
  amount bigint not null,
  status credits.refund_stage not null,
  unknown_status text,
  constraint amount_must_be_0_or_more check (amount >= 0),
  constraint unknown_status_must_tell_an_unknown_one check ((status = 'unknown') = (unknown_status is not null))
);

create index stripe_refunds_payment_intent_id on credits.stripe_refunds (payment_intent_id);

alter table credits.stripe_refunds enable row level security;
alter table credits.stripe_refunds force row level security;
revoke all on table credits.stripe_refunds from anon, authenticated, service_role;

comment on table credits.stripe_refunds is
'Refunds as Stripe tells them, kept whether or not their purchase is known yet. They count from the moment they are '
'made until they fail or are canceled.';
comment on column credits.stripe_refunds.id is 'Stripe''s re_… id.';
comment on column credits.stripe_refunds.amount is 'In minor units of the payment''s currency.';
comment on column credits.stripe_refunds.status is 'The furthest that it is known to have come.';
comment on column credits.stripe_refunds.unknown_status is 'Stripe''s word for a status that is unknown here.';

-- sql/payments/tables/stripe_disputes.sql
create table credits.stripe_disputes (
  id text primary key,
  payment_intent_id text not null,
  account_id uuid references public.credit_accounts (id),
  amount bigint not null,
  currency text not null,
  status credits.dispute_stage not null,
  unknown_status text,
  withdrawn boolean not null default false,
  reinstated boolean not null default false,
  froze_at timestamptz,
  standing boolean not null generated always as (
    status in ('needs_response', 'under_review', 'lost') and not reinstated
  ) stored,
  takes boolean not null generated always as (
    (status in ('needs_response', 'under_review', 'lost') or status in ('prevented', 'unknown') and withdrawn)
    and not reinstated
  ) stored,
  constraint amount_must_be_0_or_more check (amount >= 0),
  constraint unknown_status_must_tell_an_unknown_one check ((status = 'unknown') = (unknown_status is not null))
);

create index stripe_disputes_payment_intent_id on credits.stripe_disputes (payment_intent_id);
create index stripe_disputes_account_id on credits.stripe_disputes (account_id);

alter table credits.stripe_disputes enable row level security;
alter table credits.stripe_disputes force row level security;
revoke all on table credits.stripe_disputes from anon, authenticated, service_role;

comment on table credits.stripe_disputes is
'Disputes as Stripe tells them, kept whether or not their purchase is known yet.';
comment on column credits.stripe_disputes.id is 'Stripe''s dp_… or du_… id.';
comment on column credits.stripe_disputes.account_id is 'Whose purchase is disputed, once known.';
comment on column credits.stripe_disputes.amount is 'In minor units of the currency.';
comment on column credits.stripe_disputes.status is 'The furthest that it is known to have come.';
comment on column credits.stripe_disputes.unknown_status is 'Stripe''s word for a status that is unknown here.';
comment on column credits.stripe_disputes.withdrawn is 'Whether Stripe has told that it took the money.';
comment on column credits.stripe_disputes.reinstated is 'Whether Stripe has put the money back.';
comment on column credits.stripe_disputes.froze_at is
'When it froze the account: once, so that an operator can unfreeze one whose dispute goes on.';
comment on column credits.stripe_disputes.standing is
'Whether it freezes the account: not an inquiry (warning_…), not prevented, not won, not reinstated.';
comment on column credits.stripe_disputes.takes is
'Whether it keeps the money from us: it stands, or was prevented from becoming a chargeback by giving the money back, '
'or its status is unknown here and Stripe took the money.';

-- sql/payments/tables/stripe_balance_transactions.sql
create table credits.stripe_balance_transactions (
  id text primary key,
  payment_intent_id text not null,
  source_id text not null,
  movement credits.money_movement not null,
  amount bigint,
  fee bigint,
  currency credits.currency_code,
  exchange_rate numeric,
  booked_at timestamptz,
  constraint figures_must_come_together check (num_nulls(amount, fee, currency, booked_at) in (0, 4))
);

create index stripe_balance_transactions_payment_intent_id on credits.stripe_balance_transactions (payment_intent_id);
create index stripe_balance_transactions_untold on credits.stripe_balance_transactions (id) where amount is null;

alter table credits.stripe_balance_transactions enable row level security;
alter table credits.stripe_balance_transactions force row level security;
revoke all on table credits.stripe_balance_transactions from anon, authenticated, service_role;

comment on table credits.stripe_balance_transactions is
'What payments, refunds and disputes moved on Stripe''s balance, and what Stripe took for it. Stripe names a balance '
'transaction when it books it, which for a charge is up to an hour after the payment; the figures come with a dispute, '
'or when reconciliation asks for them. Null until then.';
comment on column credits.stripe_balance_transactions.id is 'Stripe''s txn_… id.';
comment on column credits.stripe_balance_transactions.payment_intent_id is 'The payment that it is about.';
comment on column credits.stripe_balance_transactions.source_id is 'The charge, refund or dispute that names it.';
comment on column credits.stripe_balance_transactions.amount is
'What moved, before the fee, in minor units of currency: below 0 for money that went.';
comment on column credits.stripe_balance_transactions.fee is
'What Stripe took for it, in minor units of currency; below 0 for a fee that came back. amount - fee reached the '
'balance.';
comment on column credits.stripe_balance_transactions.currency is
'The currency of the balance, which can be another than that of the payment.';
comment on column credits.stripe_balance_transactions.exchange_rate is
'Units of currency for one of the payment''s; null where they are the same.';
comment on column credits.stripe_balance_transactions.booked_at is 'When Stripe made it.';

-- sql/payments/tables/purchase_balances.sql
create view credits.purchase_balances with (security_invoker = true) as
select
  p.account_id,
  p.purchase_id,
  b.id as balance_transaction_id,
  b.movement,
  b.source_id,
  b.amount,
  b.fee,
  b.currency,
  b.exchange_rate,
  b.booked_at,
  b.amount - b.fee as net
from credits.stripe_balance_transactions as b
inner join credits.stripe_payments as p on b.payment_intent_id = p.payment_intent_id
where p.purchase_id is not null;

revoke all on table credits.purchase_balances from anon, authenticated, service_role;

comment on view credits.purchase_balances is
'What each purchase, its refunds and its disputes moved on Stripe''s balance, in minor units of currency: amount less '
'fee is net. Nulls where Stripe has named a balance transaction and not told yet.';

-- sql/payments/tables/stripe_fraud_warnings.sql
create table credits.stripe_fraud_warnings (
  id text primary key,
  payment_intent_id text not null,
  account_id uuid references public.credit_accounts (id),
  fraud_type text,
  freezes boolean not null,
  froze_at timestamptz,
  received_at timestamptz not null default clock_timestamp(),
  constraint id_must_start_with_issfr check (id ~ '^issfr_[A-Za-z0-9_]+$')
);

create index stripe_fraud_warnings_payment_intent_id on credits.stripe_fraud_warnings (payment_intent_id);
create index stripe_fraud_warnings_account_id on credits.stripe_fraud_warnings (account_id);

alter table credits.stripe_fraud_warnings enable row level security;
alter table credits.stripe_fraud_warnings force row level security;
revoke all on table credits.stripe_fraud_warnings from anon, authenticated, service_role;

comment on table credits.stripe_fraud_warnings is
'Early fraud warnings of card issuers, kept whether or not their purchase is known yet.';
comment on column credits.stripe_fraud_warnings.id is 'Stripe''s issfr_… id.';
comment on column credits.stripe_fraud_warnings.payment_intent_id is 'Stripe''s pi_… id of the payment.';
comment on column credits.stripe_fraud_warnings.account_id is 'Whose purchase it is about, once known.';
comment on column credits.stripe_fraud_warnings.fraud_type is
'What the issuer calls it, such as made_with_stolen_card.';
comment on column credits.stripe_fraud_warnings.freezes is
'billing_settings.freeze_on_fraud_warning, as it was when the warning came.';
comment on column credits.stripe_fraud_warnings.froze_at is
'When it froze the account: once, so that an operator can unfreeze it.';

-- sql/payments/tables/stripe_progress.sql
create table credits.stripe_progress (
  id boolean primary key default true,
  events_through timestamptz,
  swept_at timestamptz,
  constraint only_one_row check (id)
);

insert into credits.stripe_progress default values;

alter table credits.stripe_progress enable row level security;
alter table credits.stripe_progress force row level security;
revoke all on table credits.stripe_progress from anon, authenticated, service_role;

comment on table credits.stripe_progress is 'How far reconciliation has come: exactly one row.';
comment on column credits.stripe_progress.id is 'Always true: there is one row.';
comment on column credits.stripe_progress.events_through is 'Stripe''s events up to then have been read.';
comment on column credits.stripe_progress.swept_at is 'When Stripe''s objects were last compared.';

-- sql/payments/tables/subscription_plans.sql
create table public.subscription_plans (
  id bigint generated always as identity primary key,
  slug credits.offer_slug not null,
  name credits.offer_name not null,
  credits credits.offer_credits not null,
  unit_amount credits.offer_amount not null,
  currency credits.currency_code not null default 'usd',
  interval text not null default 'month',
  interval_count integer not null default 1,
  trial_days integer,
  trial_credits bigint,
  trial_without_card boolean not null default false,
  rollover interval not null default '0',
  rollover_cap bigint,
  monthly_allotment boolean not null default false,
  priority smallint not null default 40,
  active boolean not null default true,
  stripe_price_id credits.stripe_price_id not null,
  max_quantity credits.offer_quantity not null default 1,
  constraint subscription_plans_stripe_price_id_key unique (stripe_price_id),
  constraint interval_must_be_day_week_month_or_year check (
    subscription_plans.interval in ('day', 'week', 'month', 'year')
  ),
  constraint interval_count_must_be_1_to_36 check (interval_count between 1 and 36),
  constraint trial_days_must_be_1_to_730 check (trial_days between 1 and 730),
  constraint trial_credits_must_be_0_to_1000000000 check (trial_credits between 0 and 1000000000),
  constraint rollover_must_be_0_to_10_years check (credits.lasts(rollover, '0', '10 years')),
  constraint rollover_cap_must_be_0_or_more check (rollover_cap >= 0),
  constraint monthly_allotment_needs_a_period_of_months check (
    not monthly_allotment
    or subscription_plans.interval = 'year'
    or subscription_plans.interval = 'month' and interval_count > 1
  ),
  constraint priority_must_be_0_to_100 check (priority between 0 and 100)
);

-- Who subscribed at an earlier price keeps paying it: its row stays, inactive.
create unique index subscription_plans_slug_currency on public.subscription_plans (slug, currency) where active;

alter table public.subscription_plans enable row level security;
alter table public.subscription_plans force row level security;
revoke all on table public.subscription_plans from anon, authenticated, service_role;
revoke all on sequence public.subscription_plans_id_seq from anon, authenticated, service_role;
grant select on table public.subscription_plans to anon, authenticated, service_role, pricing_admin;
grant insert (
  slug, name, credits, unit_amount, currency, interval, interval_count, trial_days, trial_credits, trial_without_card,
  rollover, rollover_cap, monthly_allotment, priority, active, stripe_price_id, max_quantity
)
on table public.subscription_plans to pricing_admin;
-- Not what the Stripe Price says, nor which it is: Stripe cannot change a Price either.
grant update (
  name, credits, trial_days, trial_credits, trial_without_card, rollover, rollover_cap, monthly_allotment, priority,
  active, max_quantity
)
on table public.subscription_plans to pricing_admin;

create policy active_plans on public.subscription_plans for select to anon, authenticated using (active);
create policy pricing_admin_edits on public.subscription_plans for all to pricing_admin
using (true) with check (true);

comment on table public.subscription_plans is
'What users can subscribe to. DBAs insert and update rows, one per currency; clients see the active ones. For another '
'price, insert a row with the new Stripe Price and make the old one inactive: who subscribed to it keeps it. A change '
'of credits counts from each subscription''s next paid invoice.';
comment on column public.subscription_plans.slug is 'The plan''s name in code and links; the same in each currency.';
comment on column public.subscription_plans.name is 'The name that people read.';
comment on column public.subscription_plans.credits is 'Credits for each paid period and unit of quantity.';
comment on column public.subscription_plans.unit_amount is
'Price of a period in minor units of the currency, as the Stripe Price has it: 999 is $9.99, or 999 yen.';
comment on column public.subscription_plans.currency is 'ISO 4217 code in lower case, as Stripe takes it.';
comment on column public.subscription_plans.interval is 'day, week, month or year, as the Stripe Price has it.';
comment on column public.subscription_plans.interval_count is 'How many of them are a period.';
comment on column public.subscription_plans.trial_days is 'Days that a new subscription is free; null for no trial.';
comment on column public.subscription_plans.trial_credits is
'Credits for the trial, whatever the quantity; null for as many as a paid period brings, or a month of it where '
'monthly_allotment is true.';
comment on column public.subscription_plans.trial_without_card is
'True begins the trial without asking how to pay; without an answer until its end the subscription is cancelled.';
comment on column public.subscription_plans.rollover is
'How long unused credits live past the end of their period; 0 for not at all.';
comment on column public.subscription_plans.rollover_cap is
'At most so many credits of a period live on as rollover says; null for all of them.';
comment on column public.subscription_plans.monthly_allotment is
'Whether a period of several months brings its credits month by month, in equal parts that sum to credits, each '
'expiring with its month or as rollover says, with rollover_cap for each month; else all at its start.';
comment on column public.subscription_plans.priority is
'Of the lots that it grants: 0 burns first, 100 last. Purchases have 50, so by default a plan''s credits go before.';
comment on column public.subscription_plans.active is 'False takes it out of the shop; who has it keeps it.';
comment on column public.subscription_plans.stripe_price_id is
'The recurring Stripe Price that sells it, and by which its invoices are recognised.';
comment on column public.subscription_plans.max_quantity is
'How many of it, such as seats, one checkout may subscribe to; with a trial always one.';

-- sql/payments/tables/subscriptions.sql
create table public.subscriptions (
  account_id uuid not null references public.credit_accounts (id),
  id text not null,
  plan text,
  quantity integer,
  status text not null default 'incomplete',
  stripe_status text not null default 'incomplete',
  current_period_start timestamptz,
  current_period_end timestamptz,
  trial_end timestamptz,
  cancel_at timestamptz,
  canceled_at timestamptz,
  ended_at timestamptz,
  paused boolean not null default false,
  latest_invoice_id text,
  refresh_wanted boolean not null default false,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  constraint subscriptions_pkey primary key (account_id, id),
  constraint id_must_start_with_sub check (id ~ '^sub_[A-Za-z0-9_]+$')
);

create index subscriptions_refresh_wanted on public.subscriptions (id) where refresh_wanted;

alter table public.subscriptions enable row level security;
alter table public.subscriptions force row level security;
revoke all on table public.subscriptions from anon, authenticated, service_role;
grant select on table public.subscriptions to authenticated, service_role;
create policy own_subscriptions on public.subscriptions for select to authenticated
using (account_id = (select credits.my_account_id()));

comment on table public.subscriptions is
'Stripe subscriptions as Stripe last described them. Their credits come from paid invoices, never from a state here.';
comment on column public.subscriptions.id is 'Stripe''s sub_… id.';
comment on column public.subscriptions.plan is 'subscription_plans.slug; null while Stripe has not told.';
comment on column public.subscriptions.status is
'incomplete, trialing, active, past_due, unpaid, paused, canceled or incomplete_expired: stripe_status, set right by '
'what is known of its latest invoice.';
comment on column public.subscriptions.stripe_status is 'The status that Stripe''s object had.';
comment on column public.subscriptions.paused is 'Whether payment collection is paused.';
comment on column public.subscriptions.latest_invoice_id is 'Stripe''s in_… id of the invoice of this period.';
comment on column public.subscriptions.refresh_wanted is
'True when two messages of one period differ and neither says which is newer: ask Stripe.';

-- sql/payments/tables/purchases.sql
create table public.purchases (
  account_id uuid not null references public.credit_accounts (id),
  id bigint not null,
  checkout_session_id text,
  invoice_id text,
  payment_intent_id text,
  subscription_id text,
  package text,
  plan text,
  period_end timestamptz,
  quantity integer not null default 1,
  amount bigint not null,
  net_amount bigint,
  tax_amount bigint,
  currency credits.currency_code not null,
  status public.purchase_status not null,
  credits bigint not null,
  credits_granted bigint not null default 0,
  credits_clawed_back bigint not null default 0,
  refunded_amount bigint not null default 0,
  disputed_amount bigint not null default 0,
  hosted_invoice_url text,
  receipt_url text,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  constraint purchases_pkey primary key (account_id, id),
  constraint a_purchase_must_be_a_session_or_an_invoice check (num_nonnulls(checkout_session_id, invoice_id) = 1),
  constraint checkout_session_id_must_start_with_cs check (checkout_session_id ~ '^cs_[A-Za-z0-9_]+$'),
  constraint invoice_id_must_start_with_in check (invoice_id ~ '^in_[A-Za-z0-9_]+$'),
  constraint quantity_must_be_positive check (quantity > 0),
  constraint amount_must_be_0_or_more check (amount >= 0),
  constraint clawed_back_must_be_0_to_granted check (credits_clawed_back between 0 and credits_granted),
  constraint only_paid_purchases_may_grant check (status = 'paid' or credits_granted = 0)
);

create index purchases_subscription_id on public.purchases (account_id, subscription_id)
where subscription_id is not null;

alter table public.purchases enable row level security;
alter table public.purchases force row level security;
revoke all on table public.purchases from anon, authenticated, service_role;
grant select on table public.purchases to authenticated, service_role;
create policy own_purchases on public.purchases for select to authenticated
using (account_id = (select credits.my_account_id()));

comment on table public.purchases is
'Payments that bring credits: one row per Checkout session of a package, or an invoice of a subscription. Written by '
'Stripe''s messages only.';
comment on column public.purchases.id is '1, 2, 3 within the account.';
comment on column public.purchases.checkout_session_id is 'Stripe''s cs_… id, for a package.';
comment on column public.purchases.invoice_id is 'Stripe''s in_… id, for a period of a plan.';
comment on column public.purchases.payment_intent_id is 'Stripe''s pi_… id of the payment, once known.';
comment on column public.purchases.subscription_id is 'subscriptions.id, for an invoice.';
comment on column public.purchases.package is 'credit_packages.slug.';
comment on column public.purchases.plan is 'subscription_plans.slug.';
comment on column public.purchases.period_end is 'The end of the period that the invoice paid for.';
comment on column public.purchases.amount is
'What is paid, taxes included, after discounts and what the customer''s balance in Stripe paid; in minor units of the '
'currency.';
comment on column public.purchases.net_amount is
'The price after discounts without taxes, in minor units; below 0 for a downgrade whose money stays in the customer''s '
'balance in Stripe. Null where Stripe has not told.';
comment on column public.purchases.tax_amount is
'The taxes, in minor units: net_amount + tax_amount is the price. Null where Stripe has not told.';
comment on column public.purchases.currency is 'ISO 4217 code in lower case.';
comment on column public.purchases.credits is
'Credits that it brings when paid. Below 0 for a downgrade, which takes back.';
comment on column public.purchases.credits_granted is 'Credits that it has brought.';
comment on column public.purchases.credits_clawed_back is
'Of those, what refunds and disputes have taken back, less what was given back.';
comment on column public.purchases.refunded_amount is 'Refunded, in minor units; never more than amount counts.';
comment on column public.purchases.disputed_amount is
'Under dispute or lost to one, in minor units; inquiries and won disputes do not count, prevented ones if money went.';
comment on column public.purchases.hosted_invoice_url is
'Stripe''s page of the invoice, to see, print or pay; null for a package.';
comment on column public.purchases.receipt_url is 'Stripe''s page of the receipt; null while none is known.';

-- sql/payments/tables/purchase_grants.sql
create table credits.purchase_grants (
  account_id uuid not null,
  purchase_id bigint not null,
  transaction_id bigint not null,
  allotment_key text,
  month integer,
  is_late boolean not null default false,
  constraint purchase_grants_pkey primary key (account_id, purchase_id, transaction_id),
  constraint purchase_grants_purchase_id_fkey foreign key (account_id, purchase_id)
  references public.purchases (account_id, id),
  constraint purchase_grants_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint a_month_must_be_of_an_allotment check ((month is null) = (allotment_key is null))
);

create index purchase_grants_late on credits.purchase_grants (account_id) where is_late;

alter table credits.purchase_grants enable row level security;
alter table credits.purchase_grants force row level security;
revoke all on table credits.purchase_grants from anon, authenticated, service_role;

comment on table credits.purchase_grants is 'Which grants a purchase has brought.';
comment on column credits.purchase_grants.purchase_id is 'purchases.id.';
comment on column credits.purchase_grants.transaction_id is 'credit_transactions.id of the grant.';
comment on column credits.purchase_grants.allotment_key is
'allotments.key, where the purchase brings its credits month by month; else null.';
comment on column credits.purchase_grants.month is 'Which month of that period it is, from 1.';
comment on column credits.purchase_grants.is_late is
'Whether its time was over when it was granted: credits.end_late_grants may end it.';

-- sql/payments/tables/allotment_sources.sql
create table credits.allotment_sources (
  account_id uuid not null,
  transaction_id bigint not null,
  purchase_id bigint not null,
  part numeric not null,
  constraint allotment_sources_pkey primary key (account_id, transaction_id, purchase_id),
  constraint allotment_sources_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint allotment_sources_purchase_id_fkey foreign key (account_id, purchase_id)
  references public.purchases (account_id, id),
  constraint part_must_be_0_or_more check (part >= 0)
);

alter table credits.allotment_sources enable row level security;
alter table credits.allotment_sources force row level security;
revoke all on table credits.allotment_sources from anon, authenticated, service_role;

comment on table credits.allotment_sources is
'Which purchases paid for a month''s grant, where a change of plan paid for a part of it. A grant that is not here was '
'paid by its own purchase alone.';
comment on column credits.allotment_sources.transaction_id is 'credit_transactions.id of the grant.';
comment on column credits.allotment_sources.purchase_id is 'purchases.id of the period, or of the change.';
comment on column credits.allotment_sources.part is 'Credits of the grant that it paid for.';

-- sql/payments/tables/subscription_debts.sql
create table credits.subscription_debts (
  account_id uuid not null,
  purchase_id bigint not null,
  subscription_id text not null,
  period_start timestamptz not null,
  period_end timestamptz not null,
  amount bigint not null,
  owed bigint not null,
  constraint subscription_debts_pkey primary key (account_id, purchase_id),
  constraint subscription_debts_purchase_id_fkey foreign key (account_id, purchase_id)
  references public.purchases (account_id, id),
  constraint owed_must_be_0_to_amount check (owed between 0 and amount)
);

alter table credits.subscription_debts enable row level security;
alter table credits.subscription_debts force row level security;
revoke all on table credits.subscription_debts from anon, authenticated, service_role;

comment on table credits.subscription_debts is
'What a downgrade takes back of credits that subscriptions granted: one row per invoice that does.';
comment on column credits.subscription_debts.purchase_id is 'purchases.id of the invoice.';
comment on column credits.subscription_debts.subscription_id is 'subscriptions.id.';
comment on column credits.subscription_debts.period_start is 'When the change took effect.';
comment on column credits.subscription_debts.period_end is 'The end of the period whose credits are too many.';
comment on column credits.subscription_debts.amount is 'Credits that the invoice takes back.';
comment on column credits.subscription_debts.owed is
'Credits still to be taken, because they were spent. Not those that refunds have taken, that have expired unused, or '
'whose grant is yet to come.';

-- sql/payments/tables/allotments.sql
create table credits.allotments (
  account_id uuid not null,
  purchase_id bigint not null,
  subscription_id text not null,
  period_start timestamptz not null,
  period_end timestamptz not null,
  credits bigint not null,
  months integer,
  key text not null,
  rollover interval,
  rollover_cap bigint,
  priority integer,
  next_at timestamptz,
  cost_basis bigint,
  constraint allotments_pkey primary key (account_id, purchase_id, key),
  constraint allotments_purchase_id_fkey foreign key (account_id, purchase_id)
  references public.purchases (account_id, id),
  constraint a_period_has_months_and_a_change_has_none check (num_nulls(months, rollover, priority) in (0, 3)),
  constraint months_must_be_positive check (months > 0),
  constraint the_next_month_must_be_a_periods check (next_at is null or months is not null)
);

create unique index allotments_period on credits.allotments (account_id, subscription_id, period_end)
where months is not null;
create index allotments_changes on credits.allotments (account_id, subscription_id, period_end) where months is null;
create index allotments_due on credits.allotments (next_at) where next_at is not null;

alter table credits.allotments enable row level security;
alter table credits.allotments force row level security;
revoke all on table credits.allotments from anon, authenticated, service_role;

comment on table credits.allotments is
'Paid periods whose credits come month by month (subscription_plans.monthly_allotment), one row per invoice: a period, '
'or a change of plan within one, with months null.';
comment on column credits.allotments.purchase_id is 'purchases.id of the invoice.';
comment on column credits.allotments.subscription_id is 'subscriptions.id.';
comment on column credits.allotments.period_start is
'The start of the period; of a change, the month that it counts from.';
comment on column credits.allotments.credits is
'Credits of the whole period; of a change, what it adds to the months that follow, below 0 for less.';
comment on column credits.allotments.months is 'In how many parts they come.';
comment on column credits.allotments.key is
'Stripe''s id of the line, the ledger takes each month of it once; of a change, invoice_grants_and_rollover.key.';
comment on column credits.allotments.rollover is 'As the plan said when the period was paid.';
comment on column credits.allotments.rollover_cap is 'As the plan said, for each month; null for all.';
comment on column credits.allotments.priority is 'Of the lots, as the plan said.';
comment on column credits.allotments.cost_basis is
'What is paid for these credits without taxes, in minor units of the purchase''s currency; below 0 for a downgrade, '
'null for unknown.';
comment on column credits.allotments.next_at is
'When the next month begins that has not been looked at; null for none.';

-- sql/payments/tables/second_subscriptions.sql
create table credits.second_subscriptions (
  account_id uuid not null,
  subscription_id text not null,
  first_id text not null,
  noticed_at timestamptz not null default clock_timestamp(),
  claimed_until timestamptz,
  outcome text,
  note text,
  closed_at timestamptz,
  constraint second_subscriptions_pkey primary key (account_id, subscription_id),
  constraint second_subscriptions_subscription_id_fkey foreign key (account_id, subscription_id)
  references public.subscriptions (account_id, id),
  constraint second_subscriptions_first_id_fkey foreign key (account_id, first_id)
  references public.subscriptions (account_id, id),
  constraint outcome_must_be_refunded_kept_or_dismissed check (outcome in ('refunded', 'kept', 'dismissed')),
  constraint closed_ones_must_have_an_outcome check ((closed_at is null) = (outcome is null)),
  constraint note_must_have_1_to_1000_characters check (char_length(btrim(note)) between 1 and 1000)
);

create index second_subscriptions_open on credits.second_subscriptions (noticed_at) where closed_at is null;
create index second_subscriptions_first_id on credits.second_subscriptions (account_id, first_id);

alter table credits.second_subscriptions enable row level security;
alter table credits.second_subscriptions force row level security;
revoke all on table credits.second_subscriptions from anon, authenticated, service_role;

comment on table credits.second_subscriptions is
'Subscriptions that were paid while the account had one already. Their credits are taken back as they come; they are '
'cancelled in Stripe, and what was paid for them is refunded.';
comment on column credits.second_subscriptions.subscription_id is 'subscriptions.id of the one that came second.';
comment on column credits.second_subscriptions.account_id is 'credit_accounts.id.';
comment on column credits.second_subscriptions.first_id is 'subscriptions.id of the one that stays.';
comment on column credits.second_subscriptions.claimed_until is
'Until when a process that deals with it keeps the others away; null for none.';
comment on column credits.second_subscriptions.outcome is
'refunded: cancelled, and nothing of its payments is left to refund. kept: the first had ended, so that it counts and '
'has its credits. dismissed: a person says that it is settled. Null while it is to be dealt with.';
comment on column credits.second_subscriptions.note is 'What a person said about it.';
comment on column credits.second_subscriptions.closed_at is 'When it had been dealt with.';

-- sql/payments/tables/dismissed_stripe_objects.sql
create table credits.dismissed_stripe_objects (
  object_id text primary key,
  why text not null,
  dismissed_at timestamptz not null default clock_timestamp(),
  constraint object_id_must_have_1_to_255_characters check (char_length(object_id) between 1 and 255),
  constraint why_must_have_1_to_1000_characters check (char_length(btrim(why)) between 1 and 1000)
);

alter table credits.dismissed_stripe_objects enable row level security;
alter table credits.dismissed_stripe_objects force row level security;
revoke all on table credits.dismissed_stripe_objects from anon, authenticated, service_role;

comment on table credits.dismissed_stripe_objects is
'Objects of Stripe''s that cannot be applied and that a person has let go: reconciliation finds them each time.';
comment on column credits.dismissed_stripe_objects.object_id is 'Stripe''s id.';
comment on column credits.dismissed_stripe_objects.why is 'Why it may have no effect.';

-- sql/payments/tables/plan_checkouts.sql
create table credits.plan_checkouts (
  account_id uuid not null references public.credit_accounts (id),
  session_id text not null,
  request text not null,
  url text not null,
  expires_at timestamptz not null,
  closed_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  constraint plan_checkouts_pkey primary key (account_id, session_id),
  constraint session_id_must_start_with_cs check (session_id ~ '^cs_[A-Za-z0-9_]+$'),
  constraint request_must_be_a_sha_256_in_hex check (request ~ '^[0-9a-f]{64}$')
);

create index plan_checkouts_account_id on credits.plan_checkouts (account_id, created_at desc);

alter table credits.plan_checkouts enable row level security;
alter table credits.plan_checkouts force row level security;
revoke all on table credits.plan_checkouts from anon, authenticated, service_role;

comment on table credits.plan_checkouts is
'Checkout sessions for plans that were opened of late: an account has at most one that can be paid, since each paid '
'one would be a subscription.';
comment on column credits.plan_checkouts.session_id is 'Stripe''s cs_… id.';
comment on column credits.plan_checkouts.request is 'SHA-256 of what was asked for: the same is sent to the same page.';
comment on column credits.plan_checkouts.url is 'The page to pay on.';
comment on column credits.plan_checkouts.expires_at is 'When Stripe expires it by itself.';
comment on column credits.plan_checkouts.closed_at is 'When it was found paid or expired; null while it may be open.';

-- sql/payments/tables/stripe_prices.sql
create table credits.stripe_prices (
  id text primary key,
  price jsonb,
  checked_at timestamptz not null,
  constraint id_must_start_with_price check (id ~ '^price_[A-Za-z0-9_]+$')
);

alter table credits.stripe_prices enable row level security;
alter table credits.stripe_prices force row level security;
revoke all on table credits.stripe_prices from anon, authenticated, service_role;

comment on table credits.stripe_prices is
'Stripe''s Prices as they were when they were last asked for, to hold the rows that name them against.';
comment on column credits.stripe_prices.id is 'Stripe''s price_… id.';
comment on column credits.stripe_prices.price is 'The Price; null when Stripe has none of that id.';
comment on column credits.stripe_prices.checked_at is 'When Stripe was asked.';

-- sql/ledger/tables/lots_in_burn_order.sql
create view credits.lots_in_burn_order
with (security_invoker = true)
as
select
  g.*,
  row_number() over (
    partition by g.account_id
    order by g.priority asc, g.expires_at asc nulls last, g.promotional desc, g.id asc
  ) as burn_position
from credits.credit_grants as g
where g.is_live;

revoke all on table credits.lots_in_burn_order from anon, authenticated, service_role;

comment on view credits.lots_in_burn_order is
'Lots with something left, and the order in which an account''s lots burn: by priority, then earliest expiry, then '
'promotional before paid, then oldest. The one place that says so. As of the last settlement.';

-- sql/ledger/lots/lots_as_of_now.sql
create function credits.lots_as_of_now(account_id uuid) returns table (
  id bigint,
  remaining bigint,
  expires_at timestamptz,
  source public.grant_source
)
language sql
stable
set search_path = ''
as $$
  with account as (
    select
      a.balance,
      (
        select t.created_at from public.credit_transactions as t
        where t.account_id = a.id
        order by t.id desc
        limit 1
      ) as last_entry_at
    from public.credit_accounts as a
    where a.id = lots_as_of_now.account_id
  ),

  lots as (
    select
      l.id,
      l.remaining,
      l.expires_at,
      l.source,
      l.burn_position,
      -- Expired before the newest ledger row was written: nothing unsettled can have burned it.
      coalesce(l.expires_at <= account.last_entry_at, false) as lapsed,
      -- What the lots do not know of yet: debits since the last settlement.
      sum(l.remaining) over () - account.balance as pending
    from credits.lots_in_burn_order as l
    cross join account
    where l.account_id = lots_as_of_now.account_id
  ),

  reached as (
    select
      lots.*,
      coalesce(sum(lots.remaining) filter (where not lots.lapsed) over (
        order by lots.burn_position rows between unbounded preceding and 1 preceding
      ), 0) as ahead
    from lots
  )

  select
    r.id,
    case
      when r.lapsed then r.remaining
      else r.remaining - greatest(0, least(r.remaining, r.pending - r.ahead))::bigint
    end,
    r.expires_at,
    r.source
  from reached as r
  where r.lapsed or r.pending - r.ahead < r.remaining;
$$;

comment on function credits.lots_as_of_now(uuid) is
'The account''s lots with what is left of each, in credits, once the debits since the last settlement are taken off '
'in burn order. Lots past their expiry are still there: credits.due_expiries tells what of them is gone.';

-- sql/accounts/my_position.sql
create function credits.my_position() returns table (
  account_id uuid,
  balance bigint,
  available bigint,
  held bigint,
  lifetime_granted bigint,
  lifetime_spent bigint,
  lifetime_refunded bigint,
  lifetime_expired bigint,
  lifetime_clawed_back bigint,
  frozen_at timestamptz,
  updated_at timestamptz,
  expires_next bigint,
  expires_next_at timestamptz,
  status text,
  last_entry bigint
)
language sql
stable
security definer
set search_path = ''
as $$
  select
    a.id,
    p.balance,
    p.available,
    p.held,
    a.lifetime_granted,
    a.lifetime_spent,
    a.lifetime_refunded,
    a.lifetime_expired + (a.balance - p.balance),
    a.lifetime_clawed_back,
    a.frozen_at,
    a.updated_at,
    e.credits,
    e.expires_at,
    case
      when a.frozen_at is not null then 'frozen'
      when p.balance < 0 then 'debt'
      when p.available <= 0 then 'empty'
      when p.available <= (select s.low_balance from credits.billing_settings as s) then 'low'
      else 'ok'
    end,
    a.last_entry
  from public.credit_accounts as a
  cross join lateral credits.account_position(a) as p
  left join lateral (
    select l.expires_at, sum(l.remaining)::bigint as credits
    from credits.lots_as_of_now(a.id) as l
    where l.expires_at > credits.now()
    group by l.expires_at
    order by l.expires_at
    limit 1
  ) as e on a.next_expiry is not null
  where a.id = credits.account_of(auth.uid());
$$;

comment on function credits.my_position() is 'The row behind user_credits: the signed-in user''s account as of now.';

grant execute on function credits.my_position() to authenticated;

-- sql/accounts/user_credits.sql
create view public.user_credits
with (security_invoker = true)
as
select
  account_id,
  balance,
  available,
  held,
  lifetime_granted,
  lifetime_spent,
  lifetime_refunded,
  lifetime_expired,
  lifetime_clawed_back,
  frozen_at,
  updated_at,
  expires_next,
  expires_next_at,
  status,
  last_entry
from credits.my_position();

revoke all on table public.user_credits from anon, authenticated, service_role;
grant select on table public.user_credits to authenticated;

comment on view public.user_credits is
'The signed-in user''s credits, one row: balance, available (balance - held), held and lifetime totals, in credits; '
'how many expire next and when; status: frozen, debt (below zero), empty, low (up to billing_settings.low_balance) '
'or ok; last_entry: the newest ledger row, which tells which of two answers is newer. As of now: what has expired is '
'not counted, settled or not.';

-- sql/ledger/entries/csv_text.sql
create function credits.csv_text(value text) returns text
language sql
immutable
set search_path = ''
as $$
  select case when value ~ '^\s*[=+@＝＋－＠-]|^[\t\r\n]' then '''' || value else value end;
$$;

comment on function credits.csv_text(text) is
'The text as a cell that no spreadsheet takes for a formula: one that begins with = + - @, a tab or a line break gets '
'an apostrophe before it.';

-- Evaluated as the reader of transactions_export.
grant execute on function credits.csv_text(text) to service_role;

-- sql/ledger/rpc/transactions_export.sql
create view public.transactions_export
with (security_invoker = true)
as
select
  t.id,
  t.created_at,
  t.account_id,
  a.user_id,
  t.kind,
  t.amount,
  t.balance_after,
  t.quantity,
  t.unit_price,
  t.price_version,
  t.hold_id,
  t.related_id,
  t.actor,
  credits.csv_text(t.operation) as operation,
  credits.csv_text(t.idempotency_key) as idempotency_key,
  credits.csv_text(t.metadata::text) as metadata
from public.credit_transactions as t
left join public.credit_accounts as a on t.account_id = a.id;

revoke all on table public.transactions_export from anon, authenticated, service_role;
grant select on table public.transactions_export to service_role;

comment on view public.transactions_export is
'Operator: the ledger for spreadsheets (Accept: text/csv). What callers wrote cannot be taken for a formula: see '
'credits.csv_text. Numbers stay numbers.';

-- sql/generation/may_upload_input.sql
create function credits.may_upload_input(name text, metadata jsonb) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  account text := credits.my_account_id()::text;
  mime_type text := lower(metadata ->> 'mimetype');
  bytes numeric := coalesce(metadata ->> 'size', metadata ->> 'contentLength')::numeric;
begin
  if account is null
    or split_part(name, '/', 1) <> account
    or name !~* '^[^/]+/inputs/[^/]+\.(png|jpe?g|webp|gif)$'
    or split_part(name, '/', 2) <> 'inputs'
    -- JSON, or nothing, is what a request for a signed upload URL says, which has no file yet.
    or mime_type <> 'application/json' and mime_type <> all (credits.input_types()) then
    return false;
  end if;
  -- One upload of an account at a time: the next one counts this one.
  perform pg_advisory_xact_lock(hashtextextended('credits.inputs/' || account, 0));
  return (
    select
      count(o.id) < s.max_input_files
      and coalesce(sum((o.metadata ->> 'size')::bigint), 0) + greatest(bytes, 1) <= s.max_input_bytes
    from credits.billing_settings as s
    left join storage.objects as o
      on
        o.bucket_id = 'generations'
        and o.name ~>=~ (account || '/inputs/') and o.name ~<~ (account || '/inputs0')
        and o.name <> may_upload_input.name
    group by s.id
  );
end
$$;

comment on function credits.may_upload_input(text, jsonb) is
'For the policy on storage.objects: whether the signed-in user may put a file of this name there, by what Storage '
'knows of it then (mimetype; size or contentLength, in bytes): an image directly below their inputs/, within '
'billing_settings.max_input_files and max_input_bytes.';

grant execute on function credits.may_upload_input(text, jsonb) to authenticated;

-- sql/generation/generations_bucket.sql
-- The Storage bucket of the files, where there is Storage. Row level security on storage.objects is on already, and
-- only policies on it are the project's to make. What an operator has changed in the bucket's settings stays.
do $$
begin
  if to_regclass('storage.objects') is null or to_regclass('storage.buckets') is null then
    return;
  end if;

  -- The largest output. For an input: sql/generation/inputs_refusal.sql, functions/_shared/generation/media.py.
  insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
  values (
    'generations', 'generations', false, 100 * 1000 * 1000,
    array['image/png', 'image/jpeg', 'image/webp', 'image/gif', 'video/mp4', 'video/webm', 'text/plain']
  )
  on conflict (id) do nothing;

  -- Names are ACCOUNT/JOB/INDEX.EXT for what was generated, which the service role writes, and ACCOUNT/inputs/NAME for
  -- what the user uploads. An output is read once its job has succeeded: a crash between storing and charging gives
  -- nothing away. No policy for update: a user's file is replaced by removing it first.
  drop policy if exists generations_read_own on storage.objects;
  create policy generations_read_own on storage.objects for select to authenticated
  using (
    bucket_id = 'generations'
    and (storage.foldername(name))[1] = (select credits.my_account_id())::text
    and (
      (storage.foldername(name))[2] = 'inputs'
      or exists (
        select from public.generation_jobs as j
        where
          j.account_id = (select credits.my_account_id())
          and j.id = case
            when (storage.foldername(objects.name))[2] ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
              then ((storage.foldername(objects.name))[2])::uuid
          end
          and j.status = 'succeeded'
      )
    )
  );

  drop policy if exists generations_upload_inputs on storage.objects;
  create policy generations_upload_inputs on storage.objects for insert to authenticated
  with check (bucket_id = 'generations' and credits.may_upload_input(name, metadata));

  drop policy if exists generations_delete_inputs on storage.objects;
  create policy generations_delete_inputs on storage.objects for delete to authenticated
  using (
    bucket_id = 'generations'
    and (storage.foldername(name))[1] = (select credits.my_account_id())::text
    and (storage.foldername(name))[2] = 'inputs'
  );
end
$$;

-- sql/payments/checkout/price_differences.sql
create function credits.price_differences(
  price jsonb,
  currency text,
  unit_amount bigint,
  period_interval text,
  period_count integer,
  is_sold boolean
) returns text[]
language sql
immutable
set search_path = ''
as $$
  select case
    when price is null then array['Stripe has no such Price.']
    else array(
      select format('%s is %s here, %s in Stripe.', d.what, coalesce(d.ours, 'none'), coalesce(d.theirs, 'none'))
      from (
        values
        (1, 'currency', currency, price ->> 'currency'),
        (2, 'unit_amount', unit_amount::text, price ->> 'unit_amount'),
        (3, 'type', case when period_interval is null then 'one_time' else 'recurring' end, price ->> 'type'),
        (4, 'interval', period_interval, price #>> '{recurring,interval}'),
        (5, 'interval_count', period_count::text, price #>> '{recurring,interval_count}'),
        -- A Price that counts otherwise than so much a piece charges another amount than the row says.
        (6, 'billing_scheme', 'per_unit', price ->> 'billing_scheme'),
        (7, 'transform_quantity', null, nullif(price -> 'transform_quantity', 'null')::text),
        (8, 'custom_unit_amount', null, nullif(price -> 'custom_unit_amount', 'null')::text),
        (
          9, 'usage_type', case when period_interval is not null then 'licensed' end, price #>> '{recurring,usage_type}'
        ),
        -- Who subscribed to a row that is no longer sold goes on paying a Price that may be archived.
        (10, 'active', case when is_sold then 'true' else price ->> 'active' end, price ->> 'active')
      ) as d (place, what, ours, theirs)
      where d.ours is distinct from d.theirs
      order by d.place
    )
  end;
$$;

comment on function credits.price_differences(jsonb, text, bigint, text, integer, boolean) is
'What a Stripe Price says otherwise than the row that names it, a sentence each; empty when Stripe charges what the '
'row says. price: null when Stripe has none. period_interval, period_count: of a plan; null for a package.';

-- sql/payments/tables/priced_rows.sql
create view credits.priced_rows with (security_invoker = true) as
select
  p.stripe_price_id,
  'package' as kind,
  p.slug,
  p.currency,
  p.active,
  credits.price_differences(s.price, p.currency, p.unit_amount, null, null, p.active) as differences
from public.credit_packages as p
left join credits.stripe_prices as s on p.stripe_price_id = s.id
where p.stripe_price_id is not null
union all
select
  p.stripe_price_id,
  'plan' as kind,
  p.slug,
  p.currency,
  p.active,
  credits.price_differences(s.price, p.currency, p.unit_amount, p.interval, p.interval_count, p.active) as differences
from public.subscription_plans as p
left join credits.stripe_prices as s on p.stripe_price_id = s.id;

revoke all on table credits.priced_rows from anon, authenticated, service_role;

comment on view credits.priced_rows is
'The rows that name a Stripe Price, with what that Price, as last asked for, says otherwise.';

-- sql/accounts/account_of.sql
create function credits.account_of(user_id uuid) returns uuid
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return (select a.id from public.credit_accounts as a where a.user_id = account_of.user_id);
end
$$;

comment on function credits.account_of(uuid) is
'The user''s account, null when there is none. The one place that turns a user into an account; only consume_credits '
'does so itself, in its UPDATE.';

-- sql/accounts/account_position.sql
create function credits.account_position(
  account public.credit_accounts,
  out balance bigint,
  out held bigint,
  out available bigint
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
begin
  balance := account.balance;
  held := account.held;
  if account.next_expiry <= moment then
    balance := balance - (select coalesce(sum(e.credits), 0) from credits.due_expiries(account.id, moment) as e);
    held := held - (
      select coalesce(sum(h.amount), 0)
      from public.credit_holds as h
      where h.account_id = account.id and h.status = 'held' and h.expires_at <= moment
    );
  end if;
  available := balance - held;
end
$$;

comment on function credits.account_position(public.credit_accounts) is
'What the account is worth now, in credits: what a settlement at this moment would leave, without writing anything.';

-- sql/accounts/accounts_of_mailbox.sql
create function credits.accounts_of_mailbox(account_id uuid) returns setof uuid
language sql
stable
set search_path = ''
as $$
  select accounts_of_mailbox.account_id
  union
  select o.account_id
  from credits.account_addresses as d
  inner join credits.account_addresses as o on d.address = o.address
  where d.account_id = accounts_of_mailbox.account_id;
$$;

comment on function credits.accounts_of_mailbox(uuid) is
'The account, and those that have had a confirmed address of its: what comes once per address comes once to all of '
'them.';

-- sql/accounts/address_hashes.sql
create function credits.address_hashes(user_id uuid) returns bytea[]
language sql
stable
set search_path = ''
as $$
  select array_agg(h.hash order by h.hash)
  from auth.users as u
  cross join lateral (
    values
    ('email:' || credits.normal_email(u.email::text), u.email_confirmed_at is not null),
    ('phone:' || nullif(regexp_replace(u.phone, '\D', '', 'g'), ''), u.phone_confirmed_at is not null)
  ) as a (address, is_confirmed)
  cross join lateral (
    select credits.hmac_sha256(s.value, convert_to(a.address, 'UTF8')) as hash
    from credits.secrets as s
    where s.name = 'addresses'
  ) as h
  where
    u.id = address_hashes.user_id
    -- What Auth leaves of a user that was softly deleted is no address.
    and u.deleted_at is null
    and not u.is_anonymous
    and a.is_confirmed
    and a.address is not null;
$$;

comment on function credits.address_hashes(uuid) is
'The keyed hashes of the user''s confirmed addresses, e-mail and phone, in order; null for none, as for an anonymous '
'user. Only who has the database can tell whether a hash is that of an address.';

-- sql/accounts/caller.sql
create function credits.caller() returns uuid
language sql
stable
as $$
  select coalesce(auth.uid(), credits.refuse_anonymous());
$$;

comment on function credits.caller() is
'The signed-in user''s id; PT403 without one. Every spend asks: without a SET clause it is planned as part of its '
'caller.';

-- sql/accounts/count_call.sql
create function credits.count_call(account_id uuid, call text, out calls integer, out retry_after integer)
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  this_minute timestamptz := date_trunc('minute', moment);
begin
  insert into credits.call_rates as r (account_id, call, minute, calls)
  values (count_call.account_id, count_call.call, this_minute, 1)
  on conflict on constraint call_rates_pkey do update set
    -- A call that waited for the row since the minute before counts in the minute that has begun.
    minute = greatest(r.minute, excluded.minute),
    calls = case when r.minute >= excluded.minute then r.calls + 1 else 1 end
  returning r.calls into count_call.calls;
  retry_after := ceil(extract(epoch from this_minute + interval '1 minute' - moment));
end
$$;

comment on function credits.count_call(uuid, text) is
'Counts a call of the account, one session at a time per account and call: returns which of the minute''s it is, and '
'the seconds until the next minute, for the caller to compare with its limit. A refusal that raises takes its count '
'back: the limit stays reached.';

-- sql/accounts/freeze_account.sql
create function public.freeze_account(user_id uuid, reason text) returns public.credit_accounts
language plpgsql
security definer
set search_path = ''
as $$
declare
  account_id uuid := credits.open_account(freeze_account.user_id);
  account public.credit_accounts;
begin
  if coalesce(btrim(reason), '') = '' then
    perform credits.fail('PT400', 'A freeze needs a reason.', '{}', 'Send reason as text.');
  end if;
  -- credits.make_spendable refuses spends and holds of it, prepare_checkout its checkouts.
  update public.credit_accounts as a
  set
    frozen_at = coalesce(a.frozen_at, credits.now()),
    frozen_by = 'operator',
    frozen_reason = reason,
    updated_at = credits.now()
  where a.id = account_id
  returning a.* into account;
  return account;
end
$$;

comment on function public.freeze_account(uuid, text) is
'Operator: stops the user''s spends and holds (PT403) until unfreeze_account. Grants, refunds and captures of '
'earlier holds go on. Of one that is frozen already it changes the reason, and the cause: no dispute that is won '
'unfreezes it then. Errors: PT400 no reason, PT404 no such user.';

grant execute on function public.freeze_account(uuid, text) to service_role;

-- sql/accounts/handle_user.sql
create function credits.handle_user() returns trigger
language plpgsql
security definer
set search_path = ''
-- Nobody waits longer than that for a session that deals with the same address.
set lock_timeout = '2s'
as $$
begin
  perform credits.note_addresses(credits.open_account(new.id), new.id);
  return null;
exception
  when others then
    -- A user who cannot sign up is worse than one whose account opens at the first call.
    raise warning 'credits: no account for user % yet: %', new.id, sqlerrm;
    return null;
end
$$;

comment on function credits.handle_user() is
'Opens an account for each user whose e-mail or phone number is confirmed, and notes the addresses that they change '
'to. Never blocks what Auth does: what fails here is done at the user''s first call.';

create trigger open_credit_account after insert on auth.users
for each row
when (not new.is_anonymous and (new.email_confirmed_at is not null or new.phone_confirmed_at is not null))
execute function credits.handle_user();

create trigger note_credit_addresses
after update of email, email_confirmed_at, phone, phone_confirmed_at, is_anonymous on auth.users
for each row
when (
  not new.is_anonymous
  and new.deleted_at is null
  and (new.email_confirmed_at is not null or new.phone_confirmed_at is not null)
  and (
    (old.email, old.phone, old.is_anonymous, old.email_confirmed_at is null, old.phone_confirmed_at is null)
    is distinct from
    (new.email, new.phone, new.is_anonymous, new.email_confirmed_at is null, new.phone_confirmed_at is null)
  )
)
execute function credits.handle_user();

-- sql/accounts/my_credits.sql
create function public.my_credits() returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  answer jsonb;
begin
  perform credits.caller();
  select
    jsonb_build_object(
      'balance', p.balance,
      'available', p.available,
      'held', p.held,
      'frozen', p.frozen_at is not null,
      'expiring_next', coalesce(
        (
          select jsonb_agg(
            jsonb_build_object('credits', l.remaining, 'expires_at', l.expires_at, 'source', l.source)
            order by l.expires_at, l.id
          )
          from credits.lots_as_of_now(p.account_id) as l
          where l.expires_at > credits.now()
        ),
        '[]'
      ),
      'totals', jsonb_build_object(
        'granted', p.lifetime_granted,
        'spent', p.lifetime_spent,
        'refunded', p.lifetime_refunded,
        'expired', p.lifetime_expired,
        'clawed_back', p.lifetime_clawed_back
      )
    )
  into answer
  from credits.my_position() as p;
  if answer is null then
    perform credits.fail('PT404', 'You have no credit account yet.', '{}', 'It opens with your first spend, hold or grant.');
  end if;
  return answer;
end
$$;

comment on function public.my_credits() is
'The signed-in user''s credits: {balance, available, held, frozen, expiring_next: [{credits, expires_at, source}] '
'soonest first, totals: {granted, spent, refunded, expired, clawed_back}}. Errors: PT403 not signed in, PT404 no '
'account.';

grant execute on function public.my_credits() to authenticated;

-- sql/accounts/normal_email.sql
create function credits.normal_email(email text) returns text
language sql
immutable
set search_path = ''
as $$
  select case when strpos(whole.address, '@') > 1 then mailbox.name || '@' || mailbox.domain else nullif(whole.address, '') end
  from (select lower(btrim(email)) as address) as whole
  cross join lateral (
    select
      regexp_replace(whole.address, '@[^@]*$', '') as name,
      regexp_replace(whole.address, '^.*@', '') as domain
  ) as part
  -- A name that begins with + has no tag.
  cross join lateral (select coalesce(nullif(split_part(part.name, '+', 1), ''), part.name) as name) as untagged
  cross join lateral (
    select
      case
        when part.domain in ('gmail.com', 'googlemail.com') then replace(untagged.name, '.', '')
        else untagged.name
      end as name,
      case when part.domain = 'googlemail.com' then 'gmail.com' else part.domain end as domain
  ) as mailbox;
$$;

comment on function credits.normal_email(text) is
'The one way of writing an e-mail address by which a mailbox is recognised: lower case, no spaces around it, no +tag, '
'and at Gmail no dots. Null for none.';

-- sql/accounts/note_addresses.sql
create function credits.note_addresses(account_id uuid, user_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  hashes bytea[] := credits.address_hashes(user_id);
  hash bytea;
  is_new boolean;
  earlier uuid;
  inherited uuid[] := array[]::uuid[];
  settings credits.billing_settings;
begin
  if hashes is null then
    return;
  end if;
  -- Whoever signs up with one of these addresses at the same time waits, and then sees what was written here.
  foreach hash in array hashes loop
    perform pg_advisory_xact_lock(hashtextextended('credits.address ' || encode(hash, 'hex'), 0));
  end loop;
  is_new := not exists (
    select from credits.account_addresses as d where d.account_id = note_addresses.account_id
  );
  insert into credits.account_addresses (address, account_id)
  select h.address, note_addresses.account_id from unnest(hashes) as h (address)
  on conflict on constraint account_addresses_pkey do nothing;
  -- An account that had an address before is another person's, or was there already: it inherits nothing, or a debt
  -- could be put on whoever takes an address.
  if not is_new then
    return;
  end if;

  -- Whoever took over from one of these and was deleted, too, has what it owes.
  for earlier in
    with recursive line (id) as (
      select d.account_id from credits.account_addresses as d
      where d.address = any(hashes) and d.account_id <> note_addresses.account_id
      union
      select d.successor_id
      from line
      inner join credits.account_addresses as d on line.id = d.account_id
      where d.successor_id is not null
    )

    select a.id
    from public.credit_accounts as a
    where
      a.id in (select line.id from line)
      and credits.successor(a.id) is null
      and (a.user_id is null or exists (select from auth.users as u where u.id = a.user_id and u.deleted_at is not null))
    order by a.id
    for no key update of a
  loop
    if credits.successor(earlier) is null then
      update credits.account_addresses as d set successor_id = note_addresses.account_id
      where (d.address, d.account_id) = (
        select o.address, o.account_id from credits.account_addresses as o
        where o.account_id = earlier
        limit 1
      );
      inherited := inherited || earlier;
      perform credits.pass_debt(earlier);
    end if;
  end loop;

  -- A frozen account that lives keeps its debt; a second one for the same mailbox is frozen as well.
  update public.credit_accounts as a
  set frozen_at = credits.now(), frozen_by = f.frozen_by, frozen_reason = f.frozen_reason, updated_at = credits.now()
  from (
    select o.frozen_by, o.frozen_reason
    from public.credit_accounts as o
    where
      o.frozen_at is not null
      and (
        o.id = any(inherited)
        or o.id in (
          select d.account_id from credits.account_addresses as d
          where d.address = any(hashes) and d.account_id <> note_addresses.account_id
        )
        and credits.address_hashes(o.user_id) && hashes
      )
    order by o.frozen_at
    limit 1
  ) as f
  where a.id = note_addresses.account_id and a.frozen_at is null;

  select * into settings from credits.billing_settings;
  if settings.signup_bonus > 0 and not exists (
    select from credits.account_addresses as d
    inner join public.credit_transactions as t on d.account_id = t.account_id
    where d.address = any(hashes) and t.idempotency_key = 'sys:signup_bonus'
  ) then
    perform credits.grant_to_account(
      account_id, settings.signup_bonus, 'bonus', credits.now() + settings.signup_bonus_lifetime, null,
      'sys:signup_bonus', '{}'
    );
  end if;
end
$$;

comment on function credits.note_addresses(uuid, uuid) is
'Notes the confirmed addresses of the account''s user. The first time, the account takes over the debt of accounts '
'whose users were deleted and had one of these addresses, or which took over from such a one, is frozen as they are, '
'or as one that has such an address now, and gets the sign-up bonus, unless an account that has had one of them got '
'it before. Safe to call twice, also at once.';

-- sql/accounts/open_account.sql
create function credits.open_account(user_id uuid) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  account uuid := credits.account_of(user_id);
begin
  if exists (select from credits.account_addresses as d where d.account_id = account) then
    return account;
  end if;

  if account is null then
    begin
      -- A null passes the foreign key and would open an account that is nobody's.
      if user_id is null then
        raise foreign_key_violation;
      end if;
      insert into public.credit_accounts (user_id) values (open_account.user_id)
      on conflict on constraint credit_accounts_user_id_key do nothing
      returning id into account;
    exception
      when foreign_key_violation then
        perform credits.fail(
          'PT404', 'There is no such user.', jsonb_build_object('user_id', open_account.user_id), 'Check the user id.'
        );
    end;
    if account is null then
      account := credits.account_of(user_id);
    end if;
  end if;
  if
    exists (select from auth.users as u where u.id = open_account.user_id and u.is_anonymous)
    and not (select s.anonymous_credits from credits.billing_settings as s)
  then
    perform credits.fail(
      'PT403', 'Sign up first: anonymous users hold no credits.', '{"is_anonymous": true}',
      'Give the user an e-mail address or a phone number and confirm it.'
    );
  end if;
  perform credits.note_addresses(account, user_id);
  return account;
end
$$;

comment on function credits.open_account(uuid) is
'Opens the user''s account, or finds it; returns its id. With the first confirmed address come bonus, debt and freeze: '
'see note_addresses. Safe to call twice, also at once. PT404 for a user that does not exist, PT403 for an anonymous '
'one unless billing_settings.anonymous_credits.';

-- sql/accounts/pass_debt.sql
create function credits.pass_debt(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  heir uuid := credits.successor(account_id);
  owed bigint;
  entry public.credit_transactions;
begin
  if heir is null then
    return;
  end if;
  -- What claw_back takes at most; more than that follows with the next debt.
  owed := least(-(credits.lock_account(account_id)).balance, 1000000000000);
  if owed > 0 then
    entry := credits.post_entry(account_id, 'grant', owed, metadata => jsonb_build_object('debt_passed_to', heir));
    perform credits.add_lot(entry, owed, 'refund', null, null, cost_basis => 0);
    perform credits.pay_debt_from_new_credits(account_id);
    perform credits.claw_back(
      heir, owed,
      metadata => jsonb_build_object('debt_passed_from', account_id),
      cause => 'debt_taken_over',
      other_account_id => account_id
    );
  end if;
end
$$;

comment on function credits.pass_debt(uuid) is
'Moves what an account owes to its successor, if it has one: a grant here, a clawback there, so that it is owed once. '
'Locks the account, then the successor: nothing locks them the other way round.';

-- sql/accounts/pass_freeze.sql
create function credits.pass_freeze(account_id uuid, over public.freeze_cause default null) returns void
language plpgsql
set search_path = ''
as $$
declare
  heir uuid := credits.successor(account_id);
begin
  update public.credit_accounts as h
  set frozen_at = credits.now(), frozen_by = a.frozen_by, frozen_reason = a.frozen_reason, updated_at = credits.now()
  from public.credit_accounts as a
  where
    h.id = heir
    and (h.frozen_at is null or h.frozen_by = over)
    and a.id = pass_freeze.account_id and a.frozen_at is not null;
  if found then
    perform credits.pass_freeze(heir, over);
  end if;
end
$$;

comment on function credits.pass_freeze(uuid, public.freeze_cause) is
'Freezes the successor of a frozen account, if it has one, for the same cause; also one that is frozen for the cause '
'over.';

-- sql/accounts/pass_thaw.sql
create function credits.pass_thaw(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  heir uuid := credits.successor(account_id);
begin
  update public.credit_accounts as h
  set frozen_at = null, frozen_by = null, frozen_reason = null, updated_at = credits.now()
  where h.id = heir and h.frozen_by = 'dispute' and not credits.is_disputed(h.id);
  if found then
    perform credits.pass_thaw(heir);
  end if;
end
$$;

comment on function credits.pass_thaw(uuid) is
'Unfreezes the successor of an account whose disputes are over, if one had frozen it and it has no others.';

-- sql/accounts/refuse_anonymous.sql
create function credits.refuse_anonymous() returns uuid
language plpgsql
stable
set search_path = ''
as $$
begin
  perform credits.fail('PT403', 'Nobody is signed in.', '{}', 'Call with a user''s access token.');
  return null;
end
$$;

comment on function credits.refuse_anonymous() is
'PT403. Returns a uuid only so that credits.caller can be one expression.';

-- sql/accounts/return_debt.sql
create function credits.return_debt(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  heir uuid := credits.successor(account_id);
  spare bigint;
  taken public.credit_transactions;
  part bigint;
begin
  if heir is null then
    return;
  end if;
  spare := (credits.lock_account(account_id)).available;
  for taken in
    select t.*
    from credits.clawbacks as c
    inner join public.credit_transactions as t on c.account_id = t.account_id and c.transaction_id = t.id
    where c.account_id = heir and c.cause = 'debt_taken_over' and c.other_account_id = return_debt.account_id
    order by t.id
  loop
    part := least(spare, credits.left_to_refund(taken));
    if part > 0 then
      perform credits.claw_back(
        account_id, part,
        metadata => jsonb_build_object('debt_returned_to', heir),
        cause => 'debt_handed_back',
        other_account_id => heir
      );
      perform credits.give_back(heir, taken.id, part, jsonb_build_object('debt_returned_from', account_id));
      spare := spare - part;
    end if;
  end loop;
end
$$;

comment on function credits.return_debt(uuid) is
'When a deleted user''s account gets credits back, because a dispute was won, say: gives them to the successor, as far '
'as it took over debt from this account. The caller holds the account''s lock.';

-- sql/accounts/successor.sql
create function credits.successor(account_id uuid) returns uuid
language sql
stable
set search_path = ''
as $$
  select d.successor_id
  from credits.account_addresses as d
  where d.account_id = successor.account_id and d.successor_id is not null;
$$;

comment on function credits.successor(uuid) is
'The account that took over from this one, whose user was deleted; null for none.';

-- sql/accounts/unfreeze_account.sql
create function public.unfreeze_account(user_id uuid) returns public.credit_accounts
language plpgsql
security definer
set search_path = ''
as $$
declare
  account_id uuid := credits.open_account(unfreeze_account.user_id);
  account public.credit_accounts;
begin
  update public.credit_accounts as a
  set
    frozen_at = null,
    frozen_by = null,
    frozen_reason = null,
    updated_at = credits.now()
  where a.id = account_id
  returning a.* into account;
  return account;
end
$$;

comment on function public.unfreeze_account(uuid) is
'Operator: lets a frozen account spend again; nothing happens to one that is not frozen. Errors: PT404 no such user.';

grant execute on function public.unfreeze_account(uuid) to service_role;

-- sql/base/check_metadata.sql
create function credits.check_metadata(metadata jsonb) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if jsonb_typeof(metadata) is distinct from 'object' then
    perform credits.fail('PT400', 'metadata must be a JSON object.', '{}', 'Send {} or leave it out.');
  elsif octet_length(metadata::text) > 8192 then
    perform credits.fail(
      'PT400', 'metadata is larger than 8 KiB.',
      jsonb_build_object('bytes', octet_length(metadata::text), 'limit', 8192), 'Keep large values elsewhere and send their id.'
    );
  end if;
end
$$;

comment on function credits.check_metadata(jsonb) is 'PT400 unless metadata is a JSON object of at most 8192 bytes.';

-- sql/base/check_request.sql
create function credits.check_request() returns void
language plpgsql
stable
-- So that it may call credits.fail, which no API role can.
security definer
set search_path = ''
as $$
declare
  claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
begin
  -- No token, or one that says no more than that: what anon may do, anyone may.
  if claims is null or claims - 'role' = '{}' and claims ->> 'role' = 'anon' then
    return;
  end if;
  if jsonb_typeof(claims -> 'exp') is distinct from 'number' then
    perform credits.fail('PT401', 'The token never expires.', '{"claim": "exp"}', 'Sign in again to get a token with exp.');
  end if;
  if claims ->> 'role' = 'authenticated' then
    if coalesce(claims ->> 'sub', '') !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
      perform credits.fail('PT401', 'The token names no user.', '{"claim": "sub"}', 'Sign in again to get a token with sub.');
    end if;
    if not coalesce(claims -> 'aud' @> '"authenticated"', false) then
      perform credits.fail(
        'PT401', 'The token is meant for another audience.', '{"claim": "aud"}',
        'Use a token of this project: aud must be "authenticated".'
      );
    end if;
  end if;
end
$$;

comment on function credits.check_request() is
'PostgREST''s db-pre-request: refuses with PT401 a token without exp, and a user''s token without a user id in '
'sub or with an aud other than "authenticated". PostgREST has verified signature and expiry before.';

grant execute on function credits.check_request() to anon, authenticated, service_role;

-- PostgREST reads it from its login role; a running one hears of it by the notification.
alter role authenticator set "pgrst.db_pre_request" = 'credits.check_request';
notify pgrst, 'reload config';

-- sql/base/fail.sql
create function credits.fail(
  status text,
  message text,
  details jsonb default '{}',
  hint text default ''
) returns void
language plpgsql
set search_path = ''
as $$
begin
  raise exception using
    errcode = status,
    message = message,
    detail = details::text,
    hint = hint;
end
$$;

comment on function credits.fail(text, text, jsonb, text) is
'Ends the call with an error that PostgREST turns into HTTP status NNN for SQLSTATE PTNNN: a sentence, the '
'figures as JSON in details, a way out in hint. The transaction is undone, so a refusal leaves no trace.';

-- sql/base/hmac_sha256.sql
create function credits.hmac_sha256(secret bytea, message bytea) returns bytea
language sql
immutable
set search_path = ''
as $$
  select sha256(p.outer_pad || sha256(p.inner_pad || message))
  from (
    select
      string_agg(set_byte('\x00', 0, k.byte # 54), '' order by k.at) as inner_pad,
      string_agg(set_byte('\x00', 0, k.byte # 92), '' order by k.at) as outer_pad
    from (
      select
        i.at,
        case when i.at < length(secret) then get_byte(secret, i.at) else 0 end as byte
      from generate_series(0, 63) as i (at)
    ) as k
  ) as p;
$$;

comment on function credits.hmac_sha256(bytea, bytea) is
'HMAC-SHA256 (RFC 2104) of the message, for secrets of at most 64 bytes; without pgcrypto.';

-- sql/base/lasting.sql
create function credits.lasting(span interval, moment timestamptz) returns interval
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- In UTC, so that a day has 24 hours whatever time zone a caller sets.
  return make_interval(secs => extract(epoch from (moment at time zone 'UTC' + span) - moment at time zone 'UTC')::double precision);
exception
  when datetime_field_overflow then
    return null;
end
$$;

comment on function credits.lasting(interval, timestamptz) is
'How long a span of time takes that begins at the moment, in seconds alone: such intervals compare as the moments do '
'where they end. Null for one that ends outside the calendar.';

-- sql/generation/begin_generation.sql
create function public.begin_generation(
  operation text,
  quantity integer,
  request text,
  idempotency_key text default null,
  options jsonb default '{}',
  inputs integer default 0,
  mask boolean default false,
  prompt_length integer default 0,
  files text[] default '{}'
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  account uuid := credits.open_account(credits.caller());
  full_up jsonb;
  job public.generation_jobs;
  code text;
  message text;
  details text;
  hint text;
begin
  if coalesce(request, '') !~ '^[0-9a-f]{64}$' then
    perform credits.fail(
      'PT400', 'request must be the SHA-256 of the request, in hex.', '{}', 'Call the function generate instead.'
    );
  end if;
  full_up := credits.check_generation_limits(account, idempotency_key);
  if full_up is not null then
    return full_up;
  end if;
  begin
    job := credits.open_generation(
      account, operation, quantity, request, idempotency_key, coalesce(options, '{}'), coalesce(inputs, 0),
      coalesce(mask, false), coalesce(prompt_length, 0), coalesce(files, '{}')
    );
  exception
    when others then
      if sqlstate not like 'PT%' then
        raise;
      end if;
      get stacked diagnostics
        code = returned_sqlstate, message = message_text, details = pg_exception_detail, hint = pg_exception_hint;
      return credits.refuse_softly(code, message, details, hint);
  end;
  return credits.job_json(job);
end
$$;

comment on function public.begin_generation is
'Reserves the signed-in user''s credits for quantity outputs of the operation and opens a job, for the function '
'generate. request: SHA-256 of the request, in hex. options, inputs (number of images), mask (whether there is one) '
'and prompt_length (characters) count by the terms of the price; files are the paths of inputs in Storage. With '
'idempotency_key a repeat returns the same job as it is now; with anything changed it is PT409. Returns the job with '
'credits_held, credits_charged, available. Errors as hold_credits, PT400 for what does not fit the terms, PT404 and '
'PT413 for files, and PT429 beyond billing_settings.max_generations_per_minute or max_generations_in_flight '
'(details: limit, retry_after in seconds). A refusal counts as a call too.';

grant execute on function public.begin_generation to authenticated;

-- sql/generation/call_cost.sql
create function credits.call_cost(
  provider text,
  model text,
  tokens jsonb,
  outputs integer,
  seconds numeric
) returns numeric
language sql
stable
set search_path = ''
as $$
  select coalesce(
    (
      -- A kind of tokens that is counted and has no price makes the sum unknown.
      select case when bool_and(p.price is not null) then sum(t.value::numeric * p.price) / 1000000 end
      from jsonb_each_text(case jsonb_typeof(tokens) when 'object' then tokens else '{}' end) as t
      left join (
        values
        ('input_text', c.input_text), ('input_image', c.input_image), ('output_text', c.output_text),
        ('output_image', c.output_image)
      ) as p (kind, price) on t.key = p.kind
      where t.value ~ '^[0-9]{1,12}$' and t.value <> '0'
    ),
    c.cost_per_second * seconds * outputs,
    c.cost_per_output * outputs
  )
  from credits.provider_costs as c
  where c.provider = call_cost.provider and c.model = call_cost.model;
$$;

comment on function credits.call_cost(text, text, jsonb, integer, numeric) is
'What a provider''s call cost us, US dollars, by credits.provider_costs: its tokens ({input_text, input_image, '
'output_text, output_image}) where they are known and have prices, else its outputs, by the seconds of one or each. '
'Null where the row does not say.';

-- sql/generation/cancel_generation.sql
create function public.cancel_generation(job_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  job public.generation_jobs := credits.lock_generation(credits.account_of(credits.caller()), job_id);
begin
  if job.status = 'held' then
    job := credits.close_generation(
      job, credits.lock_hold(job.account_id, job.hold_id), 'canceled', 0, 'failed', null,
      jsonb_build_object('status', 409, 'code', 'canceled', 'message', 'The job was canceled.'), null, null
    );
  elsif job.finished_at is null then
    update public.generation_jobs as j set cancel_requested_at = coalesce(j.cancel_requested_at, credits.now())
    where j.account_id = job.account_id and j.id = job.id
    returning * into job;
  end if;
  return credits.job_json(job);
end
$$;

comment on function public.cancel_generation(uuid) is
'Takes the signed-in user''s job back: at once while no provider was asked; after that it notes the wish, and the '
'function generate cancels what the provider lets it. A job that is over stays as it is. Returns the job. Errors: '
'PT403 not signed in, PT404 no such job, another user''s included.';

grant execute on function public.cancel_generation(uuid) to authenticated;

-- sql/generation/check_generation_limits.sql
create function credits.check_generation_limits(account_id uuid, idempotency_key text) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  counted record;
  account record;
begin
  if exists (
    select from public.credit_holds as h
    inner join public.generation_jobs as j on h.account_id = j.account_id and h.id = j.hold_id
    where
      h.account_id = check_generation_limits.account_id
      and h.idempotency_key = check_generation_limits.idempotency_key
  ) then
    return null;
  end if;
  counted := credits.count_call(account_id, 'generation');

  -- Under the lock of the count, so it also sees what the same key opened meanwhile.
  select
    s.max_generations_per_minute as most_calls,
    s.max_generations_in_flight as most_in_flight,
    (
      select count(*) from public.generation_jobs as j
      -- One whose time is over is not under way, swept or not.
      where j.account_id = check_generation_limits.account_id and j.finished_at is null and j.deadline_at > moment
    ) as in_flight,
    exists (
      select from public.credit_holds as h
      inner join public.generation_jobs as j on h.account_id = j.account_id and h.id = j.hold_id
      where
        h.account_id = check_generation_limits.account_id
        and h.idempotency_key = check_generation_limits.idempotency_key
    ) as is_repeat
  into account
  from credits.billing_settings as s;

  if account.is_repeat then
    return null;
  elsif counted.calls > account.most_calls then
    return credits.refuse_softly(
      'PT429', 'Too many generations in this minute.',
      jsonb_build_object('limit', account.most_calls, 'retry_after', counted.retry_after)::text,
      'Wait, then try again.'
    );
  elsif account.in_flight >= account.most_in_flight then
    return credits.refuse_softly(
      'PT429', 'Too many generations are under way.',
      jsonb_build_object('limit', account.most_in_flight, 'retry_after', 5)::text, 'Wait for one to end.'
    );
  end if;
  return null;
end
$$;

comment on function credits.check_generation_limits(uuid, text) is
'Counts a call of begin_generation against the account''s limits, one session per account at a time. Returns the '
'refusal, or null to go on. A repeat of a key that opened a job is not counted.';

-- sql/generation/check_lease.sql
create function credits.check_lease(lease_seconds integer) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if lease_seconds is null or lease_seconds not between 1 and 300 then
    perform credits.fail(
      'PT400', 'lease_seconds must be from 1 to 300.', jsonb_build_object('lease_seconds', lease_seconds),
      'Renew a lease before it ends instead.'
    );
  end if;
end
$$;

comment on function credits.check_lease(integer) is 'PT400 unless it is a number of seconds that a lease may have.';

-- sql/generation/close_generation.sql
create function credits.close_generation(
  job public.generation_jobs,
  hold public.credit_holds,
  status public.generation_status,
  delivered integer,
  usage_status text,
  outputs jsonb,
  error jsonb,
  latency_ms integer,
  provider_cost numeric,
  tokens jsonb default null
) returns public.generation_jobs
language plpgsql
set search_path = ''
as $$
declare
  -- With the unit "second" an output is as many units as it has seconds.
  units_each integer := hold.quantity / job.quantity;
  paid public.credit_transactions;
  closed public.generation_jobs;
begin
  if delivered > 0 then
    paid := credits.capture(hold, delivered * units_each, jsonb_build_object('job', job.id));
  elsif hold.status = 'held' then
    perform credits.release(hold, close_generation.status::text);
  end if;
  update public.generation_jobs as j
  set
    status = close_generation.status,
    outputs = coalesce(close_generation.outputs, '[]'),
    error = close_generation.error,
    -- The hold's: where an operator captured it by hand.
    transaction_id = coalesce(paid.id, hold.transaction_id),
    finished_at = credits.now()
  where j.account_id = job.account_id and j.id = job.id
  returning * into closed;
  if job.dispatched_at is not null then
    perform credits.log_usage(
      job.account_id, job.provider, job.model, job.operation, jsonb_array_length(closed.outputs) * units_each,
      usage_status, latency_ms,
      coalesce(
        close_generation.provider_cost,
        credits.call_cost(
          job.provider, job.model, tokens,
          case
            when usage_status in ('succeeded', 'unknown') then job.quantity
            when usage_status = 'partial' then delivered
            -- The provider has done its part.
            when error ->> 'code' = 'not_stored' then job.quantity
            else 0
          end,
          (job.options ->> 'duration')::numeric
        )
      ),
      job.hold_id, closed.transaction_id, tokens
    );
  end if;
  return closed;
end
$$;

comment on function credits.close_generation is
'Ends a job: captures what was delivered or releases the hold, notes the outcome, logs the provider call with its cost '
'(as told, else by credits.call_cost: for refusals and failures their tokens, if any), unless no provider was asked. '
'delivered: how many outputs to charge. The caller holds the locks of both, and asks to capture only what is held.';

-- sql/generation/decline_generation.sql
create function public.decline_generation(account_id uuid, job_id uuid, error jsonb) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  job public.generation_jobs := credits.lock_generation(account_id, job_id);
begin
  if job.status = 'held' then
    job := credits.close_generation(
      job, credits.lock_hold(job.account_id, job.hold_id), 'failed', 0, 'failed', null, error, null, null
    );
  end if;
  return credits.job_json(job);
end
$$;

comment on function public.decline_generation(uuid, uuid, jsonb) is
'For the function generate when it finds before it asks a provider that a job of the account cannot be done: ends it '
'and gives the credits back. A job that somebody else has dispatched meanwhile, or that is over, stays as it is. '
'error: {status, code, message} for the client. Returns the job. Errors: PT404 the account has no such job.';

grant execute on function public.decline_generation(uuid, uuid, jsonb) to service_role;

-- sql/generation/dispatch_generation.sql
create function public.dispatch_generation(account_id uuid, job_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  job public.generation_jobs := credits.lock_generation(account_id, job_id);
  hold public.credit_holds;
begin
  if job.status <> 'held' then
    return null;
  end if;
  hold := credits.lock_hold(job.account_id, job.hold_id);
  if hold.status <> 'held' or job.deadline_at <= credits.now() then
    job := credits.expire_generation(job, hold);
    return credits.job_json(job);
  end if;
  update public.generation_jobs as j
  set
    status = 'dispatched',
    dispatched_at = credits.now(),
    deadline_at = credits.now() + make_interval(
      secs => (credits.generation_terms(p.new -> 'terms') ->> 'deadline_seconds')::double precision
    )
  from credits.pricing_tier_history as p
  where j.account_id = job.account_id and j.id = job.id and p.version = hold.price_version
  returning j.* into job;
  perform credits.keep_hold(hold, job.deadline_at);
  return credits.job_json(job);
end
$$;

comment on function public.dispatch_generation(uuid, uuid) is
'For the function generate, before it asks the provider: returns the job to the one caller who may ask, and null to '
'every other. The job''s deadline counts from here. A job that was not started in time is ended and returned as '
'failed. Errors: PT404 the account has no such job.';

grant execute on function public.dispatch_generation(uuid, uuid) to service_role;

-- sql/generation/expire_generation.sql
create function credits.expire_generation(
  job public.generation_jobs,
  hold public.credit_holds
) returns public.generation_jobs
language sql
set search_path = ''
as $$
  select e.*
  from credits.close_generation(
    job, hold,
    case when job.dispatched_at is null then 'failed' else 'expired' end::public.generation_status,
    0, 'unknown', null,
    case
      when job.dispatched_at is null
        then jsonb_build_object('status', 504, 'code', 'not_dispatched', 'message', 'The job was not started in time.')
      else
        jsonb_build_object('status', 504, 'code', 'deadline', 'message', 'The provider did not deliver in time.')
    end,
    null, null
  ) as e;
$$;

comment on function credits.expire_generation(public.generation_jobs, public.credit_holds) is
'Ends a job whose time is over: the user gets the credits back; the provider''s cost is logged as ours '
'(usage_logs.status unknown). The caller holds the locks of both.';

-- sql/generation/finish_generation.sql
create function public.finish_generation(
  account_id uuid,
  job_id uuid,
  outcome text,
  outputs jsonb default '[]',
  error jsonb default null,
  latency_ms integer default null,
  provider_cost numeric default null,
  tokens jsonb default null
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  job public.generation_jobs := credits.lock_generation(account_id, job_id);
  hold public.credit_holds;
  delivered integer;
  charged integer;
begin
  if job.finished_at is not null then
    return credits.job_json(job);
  elsif outcome is null or outcome not in ('succeeded', 'refused', 'failed', 'canceled') then
    perform credits.fail(
      'PT400', 'outcome must be succeeded, refused, failed or canceled.', jsonb_build_object('outcome', outcome),
      'It says how the provider''s call ended.'
    );
  elsif jsonb_typeof(outputs) is distinct from 'array' then
    perform credits.fail('PT400', 'outputs must be an array.', '{}', 'Send one object for each output.');
  end if;
  delivered := jsonb_array_length(outputs);
  if (outcome = 'succeeded') <> (delivered > 0) or delivered > job.quantity then
    perform credits.fail(
      'PT400', format('A job of %s cannot have %s with %s outputs.', job.quantity, outcome, delivered),
      jsonb_build_object('quantity', job.quantity, 'outputs', delivered), 'Only a job that succeeded has outputs.'
    );
  end if;

  hold := credits.lock_hold(job.account_id, job.hold_id);
  if hold.status <> 'held' then
    -- Its time was over before its outcome came: what the provider did is our loss.
    job := credits.expire_generation(job, hold);
    return credits.job_json(job);
  end if;
  charged := delivered;
  if outcome = 'refused' and (
    select (credits.generation_terms(p.new -> 'terms') ->> 'charge_refusals')::boolean
    from credits.pricing_tier_history as p
    where p.version = hold.price_version
  ) then
    charged := job.quantity;
  end if;
  job := credits.close_generation(
    job, hold, outcome::public.generation_status, charged,
    case
      when outcome = 'succeeded' and delivered < job.quantity then 'partial'
      when outcome = 'canceled' then 'failed'
      else outcome
    end,
    outputs, error, latency_ms, provider_cost, tokens
  );
  return credits.job_json(job);
end
$$;

comment on function public.finish_generation is
'For the function generate, once a provider''s call has ended: charges what was delivered and releases the rest; '
'logs the call. outcome: succeeded (with 1 to quantity outputs), refused, failed or canceled. error: {status, code, '
'message} for the client. provider_cost: US dollars; else by '
'credits.call_cost from tokens, {input_text, input_image, output_text, output_image}, and outputs. A job that is '
'over, expired included, stays as it is. Returns the job with credits_charged and available. Errors: PT400, PT404.';

grant execute on function public.finish_generation to service_role;

-- sql/generation/generation_terms.sql
create function credits.generation_terms(terms jsonb) returns jsonb
language sql
stable
as $$
  select jsonb_build_object(
    'output', coalesce(terms ->> 'output', 'image'),
    'deadline_seconds', coalesce((terms ->> 'deadline_seconds')::integer, 120),
    'charge_refusals', coalesce((terms ->> 'charge_refusals')::boolean, false)
  );
$$;

comment on function credits.generation_terms(jsonb) is
'What pricing_tiers.terms say of the run of a job, defaults filled in: {output: image, text or video; '
'deadline_seconds; charge_refusals}. Of a job: by the price that its hold pinned. Without a SET clause it is planned '
'as part of its caller.';

-- sql/generation/input_types.sql
create function credits.input_types() returns text[]
language sql
immutable
as $$
  select array['image/png', 'image/jpeg', 'image/webp', 'image/gif'];
$$;

comment on function credits.input_types() is
'The MIME types of what users may upload below inputs/. Without a SET clause it is planned as part of its caller.';

-- sql/generation/inputs_refusal.sql
create function credits.inputs_refusal(account_id uuid, files text[], out code text, out message text)
language plpgsql
stable
set search_path = ''
as $$
begin
  -- A project without Storage has no files.
  if cardinality(files) > 0 and to_regclass('storage.objects') is null then
    code := 'PT404';
  elsif cardinality(files) > 17 then
    -- Sixteen images and a mask: what no request has is looked up for nobody. This number, the types and the size of
    -- one are also in functions/_shared/generation, which reads the bytes; a test holds them together.
    code := 'PT413';
  elsif cardinality(files) > 0 then
    select
      case
        when count(*) filter (
          where o.name is null or not starts_with(f.path, inputs_refusal.account_id::text || '/')
        ) > 0 then 'PT404'
        when bool_or(o.metadata ->> 'mimetype' not in ('image/png', 'image/jpeg', 'image/webp')) then 'PT400'
        when sum((o.metadata ->> 'size')::bigint) > 50000000 or max((o.metadata ->> 'size')::bigint) > 32 * 1024 * 1024
          then 'PT413'
      end
    into code
    from unnest(files) as f (path)
    left join storage.objects as o on o.bucket_id = 'generations' and f.path = o.name;
  end if;
  message := case code
    when 'PT404' then 'There is no such file among your inputs.'
    when 'PT400' then 'An input cannot be used. Send a PNG, JPEG or WebP image.'
    when 'PT413' then 'The inputs are too many, or larger than 32 MiB each or 50 MB together.'
  end;
end
$$;

comment on function credits.inputs_refusal(uuid, text[]) is
'Why the files of the bucket generations cannot be a generation''s inputs, by what Storage has noted of them: PT404 '
'not there or not the account''s, PT400 not images that providers take, PT413 over 32 MiB each or 50 MB together. '
'Nulls when nothing is wrong. That nobody holds more images in memory than that is what the last one is for.';

-- sql/generation/job_json.sql
create function credits.job_json(job public.generation_jobs) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return (
    select to_jsonb(job) || jsonb_build_object(
      'terms', credits.generation_terms(p.new -> 'terms'),
      'credits_held', h.amount,
      'credits_charged', coalesce(-t.amount, 0),
      'available', a.available
    )
    from public.credit_holds as h
    inner join credits.account_position(
      (select c from public.credit_accounts as c where c.id = job.account_id)
    ) as a on true
    inner join credits.pricing_tier_history as p on h.price_version = p.version
    left join public.credit_transactions as t on t.account_id = job.account_id and t.id = job.transaction_id
    where h.account_id = job.account_id and h.id = job.hold_id
  );
end
$$;

comment on function credits.job_json(public.generation_jobs) is
'A job for the function generate: the row, with its terms, credits_held, credits_charged, and what the account has '
'available now.';

-- sql/generation/keep_hold.sql
create function credits.keep_hold(hold public.credit_holds, deadline timestamptz) returns void
language plpgsql
set search_path = ''
as $$
declare
  ends timestamptz := deadline + credits.sweep_grace();
begin
  update public.credit_holds as h set expires_at = ends 
  where h.account_id = hold.account_id and h.id = hold.id and h.status = 'held';
  if ends < hold.expires_at then
    update public.credit_accounts as a set next_expiry = ends where a.id = hold.account_id and a.next_expiry > ends;
  end if;
end
$$;

comment on function credits.keep_hold(public.credit_holds, timestamptz) is
'Lets an open hold live as long as its job may, and the sweep''s grace more. The caller has it from credits.lock_hold.';

-- sql/generation/lease_generations.sql
create function public.lease_generations(
  process uuid,
  lease_seconds integer default 45,
  batch integer default 100
) returns setof jsonb
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform credits.check_lease(lease_seconds);
  if process is null then
    perform credits.fail('PT400', 'process is missing.', '{}', 'Send a UUID that the process keeps while it runs.');
  end if;
  return query
  with free as (
    select
      j.account_id,
      j.id
    from public.generation_jobs as j
    where
      j.finished_at is null
      and j.provider_job_id is not null
      and j.deadline_at > credits.now()
      and (j.leased_until is null or j.leased_until <= credits.now())
    order by j.deadline_at
    limit least(greatest(batch, 1), 100)
    for no key update skip locked
  ),

  taken as (
    update public.generation_jobs as j
    set leased_by = process, leased_until = credits.now() + make_interval(secs => lease_seconds)
    from free
    where j.account_id = free.account_id and j.id = free.id
    returning j
  )

  select credits.job_json(t.j) from taken as t;
end
$$;

comment on function public.lease_generations(uuid, integer, integer) is
'For the function generate: hands the process up to batch jobs (at most 100) that are with a provider who can be asked '
'about them, and that no other process sees to, the most urgent first. They are its own for lease_seconds (1 to 300); '
'note_generation renews that. Call it again while it returns a full batch. Errors: PT400.';

grant execute on function public.lease_generations(uuid, integer, integer) to service_role;

-- sql/generation/lock_generation.sql
create function credits.lock_generation(account_id uuid, job_id uuid) returns public.generation_jobs
language plpgsql
set search_path = ''
as $$
declare
  job public.generation_jobs;
begin
  select * into job from public.generation_jobs as j
  where j.account_id = lock_generation.account_id and j.id = job_id
  for no key update;
  if not found then
    perform credits.fail('PT404', 'There is no such job.', jsonb_build_object('job', job_id), 'Check the id.');
  end if;
  return job;
end
$$;

comment on function credits.lock_generation(uuid, uuid) is
'The account''s job, locked until the transaction ends; before its account, always. PT404: the account has no such '
'job, another''s included.';

-- sql/generation/my_generation.sql
create function public.my_generation(job_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  job public.generation_jobs;
begin
  select j.* into job
  from public.generation_jobs as j
  where j.account_id = credits.account_of(me) and j.id = job_id;
  if not found then
    perform credits.fail('PT404', 'There is no such job.', jsonb_build_object('job', job_id), 'Check the id.');
  end if;
  return credits.job_json(job);
end
$$;

comment on function public.my_generation(uuid) is
'The signed-in user''s job, with credits_held, credits_charged and available. Errors: PT403 not signed in, PT404 no '
'such job, another user''s included.';

grant execute on function public.my_generation(uuid) to authenticated;

-- sql/generation/note_generation.sql
create function public.note_generation(
  account_id uuid,
  job_id uuid,
  provider_job_id text default null,
  unknown boolean default false,
  extend_seconds integer default null,
  process uuid default null,
  lease_seconds integer default 45
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  job public.generation_jobs := credits.lock_generation(account_id, job_id);
  moment timestamptz := credits.now();
begin
  if job.finished_at is not null or job.dispatched_at is null then
    return credits.job_json(job);
  elsif extend_seconds not between 1 and 3600 then
    perform credits.fail(
      'PT400', 'extend_seconds must be from 1 to 3600.', jsonb_build_object('extend_seconds', extend_seconds),
      'Send a heartbeat more often instead.'
    );
  elsif job.leased_by <> process and job.leased_until > moment then
    return credits.job_json(job);
  end if;
  perform credits.check_lease(lease_seconds);
  update public.generation_jobs as j
  set
    provider_job_id = coalesce(note_generation.provider_job_id, j.provider_job_id),
    status = case
      when note_generation.unknown then 'unknown'
      when coalesce(note_generation.provider_job_id, j.provider_job_id) is not null then 'running'
      else j.status
    end,
    deadline_at = greatest(
      j.deadline_at,
      case when extend_seconds is not null then least(
        moment + make_interval(secs => extend_seconds), j.created_at + s.hold_ttl_max - credits.sweep_grace()
      ) end
    ),
    leased_by = coalesce(process, j.leased_by),
    leased_until = case
      when process is not null then moment + make_interval(secs => lease_seconds) else j.leased_until
    end
  from credits.billing_settings as s
  where j.account_id = job.account_id and j.id = job.id
  returning j.* into job;
  perform credits.keep_hold(credits.lock_hold(job.account_id, job.hold_id), job.deadline_at);
  return credits.job_json(job);
end
$$;

comment on function public.note_generation(uuid, uuid, text, boolean, integer, uuid, integer) is
'For the function generate while a job is under way: keeps the provider''s id; unknown: the provider may or may not '
'have taken it; extend_seconds: a heartbeat, which moves the deadline to so long from now, at most '
'billing_settings.hold_ttl_max from the start; process: who sees to it, for lease_seconds (1 to 300) from now. A job '
'that is over stays as it is, and so does one that another process has: look at leased_by. Returns the job. Errors: '
'PT400, PT404.';

grant execute on function public.note_generation(uuid, uuid, text, boolean, integer, uuid, integer) to service_role;

-- sql/generation/open_generation.sql
create function credits.open_generation(
  account_id uuid,
  operation text,
  quantity integer,
  request text,
  idempotency_key text,
  options jsonb,
  inputs integer,
  mask boolean,
  prompt_length integer,
  files text[]
) returns public.generation_jobs
language plpgsql
set search_path = ''
as $$
declare
  price record;
  wrong record;
  hold public.credit_holds;
  job public.generation_jobs;
begin
  select * into price
  from credits.generation_price(
    open_generation.operation, open_generation.quantity, open_generation.options, open_generation.inputs,
    open_generation.mask, open_generation.prompt_length
  );
  select * into wrong from credits.inputs_refusal(account_id, files);
  hold := credits.hold_at_price(
    account_id, operation, price.units, price.unit_price, price.version, case when wrong.code is null then price.amount end,
    interval '1 minute' + credits.sweep_grace(), idempotency_key,
    -- All that decides about the price is in it, and hold_credits makes another: what is begun with a key is what was
    -- paid for.
    credits.keyed_hash(
      idempotency_key, 'begin_generation', operation, quantity::text, request, options::text, inputs::text, mask::text,
      prompt_length::text, files::text
    ),
    '{}',
    is_limited => false
  );
  if hold.id is null then
    if price.version is null then
      perform credits.refuse_price(operation, quantity);
    elsif price.refusal is not null then
      perform credits.fail(
        'PT400', price.refusal, jsonb_build_object('operation', operation),
        'The terms of an operation are in its row of pricing_tiers.'
      );
    end if;
    perform credits.fail(wrong.code, wrong.message, '{}', 'Upload it again, or name another.');
  end if;
  insert into public.generation_jobs (
    account_id, hold_id, operation, provider, model, quantity, options, request, deadline_at, created_at
  )
  select
    hold.account_id, hold.id, hold.operation, p.new ->> 'provider', p.new ->> 'model', open_generation.quantity,
    coalesce(price.settled, '{}'), open_generation.request, hold.created_at + interval '1 minute', hold.created_at
  from credits.pricing_tier_history as p
  where p.version = hold.price_version
  on conflict on constraint generation_jobs_hold_id_key do nothing
  returning * into job;
  if not found then
    select * into job from public.generation_jobs as j
    where j.account_id = hold.account_id and j.hold_id = hold.id;
  end if;
  return job;
end
$$;

comment on function credits.open_generation is
'Holds the credits and opens the job, or finds the one that the same key and request opened. Provider, model and '
'options are those of the price that the hold pinned. Until it is dispatched the job has a minute.';

-- sql/generation/refuse_softly.sql
create function credits.refuse_softly(code text, message text, details text, hint text) returns jsonb
language sql
set search_path = ''
as $$
  select jsonb_build_object('code', code, 'message', message, 'details', details, 'hint', hint)
  from set_config('response.status', substr(code, 3), true);
$$;

comment on function credits.refuse_softly(text, text, text, text) is
'A refusal that commits: the body and the HTTP status that credits.fail would give through PostgREST, but what was '
'written before, such as a count of calls, stays.';

-- sql/generation/release_generations.sql
create function public.release_generations(process uuid) returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
  released integer;
begin
  update public.generation_jobs as j
  set leased_until = null
  where j.leased_by = process and j.finished_at is null and j.leased_until is not null;
  get diagnostics released = row_count;
  return released;
end
$$;

comment on function public.release_generations(uuid) is
'For the function generate when its process ends: gives back every job that lease_generations or note_generation gave '
'it, so that another process need not wait. Returns how many.';

grant execute on function public.release_generations(uuid) to service_role;

-- sql/generation/sweep_files.sql
create function public.sweep_files(process uuid, batch integer default 500) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  page integer := least(greatest(batch, 1), 500);
  sweep credits.file_sweep;
  settings credits.billing_settings;
  seen bigint;
  stale jsonb;
  last text;
begin
  if to_regclass('storage.objects') is null then
    return null;
  end if;
  update credits.file_sweep as s
  set leased_by = process, leased_until = moment + interval '1 minute'
  where
    process is not null
    and (s.leased_by = process or s.leased_until is null or s.leased_until <= moment)
    and (s.after is not null or s.swept_at is null or s.swept_at <= moment - interval '1 hour')
  returning * into sweep;
  if not found then
    return null;
  end if;
  select * into settings from credits.billing_settings;

  with looked_at as materialized (
    select
      o.name,
      o.created_at,
      split_part(o.name, '/', 1) as account,
      split_part(o.name, '/', 2) as folder
    from storage.objects as o
    where o.bucket_id = 'generations' and o.name > coalesce(sweep.after, '')
    order by o.name
    limit page
  ),

  -- Nothing is ours that does not lie in the folder of an account.
  accounts as (
    select
      a.id,
      names.account
    from (select distinct l.account from looked_at as l) as names
    inner join public.credit_accounts as a on a.id = case
      when names.account ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then names.account::uuid
    end
  ),

  -- What came past the policy, by uploads at the same moment or signed URLs: of too many, the first ones stay.
  inputs as (
    select
      o.name,
      lower(o.metadata ->> 'mimetype') <> all (credits.input_types()) as is_wrong,
      row_number() over first_come as files,
      sum((o.metadata ->> 'size')::bigint) over first_come as bytes
    from accounts as a
    inner join storage.objects as o
      on o.bucket_id = 'generations' and o.name ~>=~ (a.account || '/inputs/') and o.name ~<~ (a.account || '/inputs0')
    window first_come as (partition by a.id order by o.created_at, o.id)
  )

  select
    (select count(*) from looked_at),
    (select max(l.name) from looked_at as l),
    coalesce(jsonb_agg(l.name order by l.name) filter (
      where i.name is not null and (
        l.created_at <= moment - settings.input_retention
        or i.is_wrong
        or i.files > settings.max_input_files
        or i.bytes > settings.max_input_bytes
      )
      or j.id is not null and l.created_at <= moment - settings.orphan_retention
    ), '[]')
  into seen, last, stale
  from looked_at as l
  inner join accounts as a on l.account = a.account
  left join inputs as i on l.name = i.name
  -- Only of a job that is over: it stays what it is, so nobody can come to need the file.
  left join public.generation_jobs as j
    on
      j.account_id = a.id
      and j.id = case
        when l.name ~ '^[^/]+/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9]+\.(png|jpg|webp|gif|mp4|webm|txt)$'
          then l.folder::uuid
      end
      and j.finished_at <= moment - settings.orphan_retention
      and not j.outputs @> jsonb_build_array(jsonb_build_object('path', l.name));

  last := case when seen = page then last end;
  update credits.file_sweep as s
  set
    after = last,
    swept_at = case when last is null then moment else s.swept_at end,
    leased_until = case when last is not null then s.leased_until end;
  return jsonb_build_object('paths', stale, 'more', last is not null);
end
$$;

comment on function public.sweep_files(uuid, integer) is
'For the function generate: looks at the next batch files (at most 500) of the bucket generations, and returns {paths: '
'those to be deleted through Storage, more: whether to call again now}. Null while another process sweeps, and within '
'an hour of the last sweep''s end. To be deleted are files of jobs that are over for '
'billing_settings.orphan_retention and do not list them as outputs, and inputs that are older than input_retention, '
'are no images, or are beyond max_input_files and max_input_bytes.';

grant execute on function public.sweep_files(uuid, integer) to service_role;

-- sql/generation/sweep_generations.sql
create function credits.sweep_generations(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  job public.generation_jobs;
  ends_at constant timestamptz := clock_timestamp() + interval '1 second';
  swept integer := 0;
begin
  for job in
    select j.* from public.generation_jobs as j
    where
      j.finished_at is null
      and j.deadline_at <= credits.now()
      and not exists (
        select from credits.maintenance_failures as f where f.account_id = j.account_id and f.job_id = j.id and f.retry_at > credits.now()
      )
    order by j.deadline_at
    limit batch
    for no key update skip locked
  loop
    -- Each may have to wait for its user's row; nobody shall wait longer for the accounts that are locked by now.
    exit when clock_timestamp() >= ends_at;
    -- Waits for nobody: two sweeps that hold several accounts each would wait for one another.
    perform from public.credit_accounts as a where a.id = job.account_id for no key update skip locked;
    if found then
      swept := swept + case when credits.attempt(
        'generations',
        format(
          'select to_jsonb(e.id) from public.generation_jobs as j, '
          'credits.expire_generation(j, credits.lock_hold(j.account_id, j.hold_id)) as e '
          'where j.account_id = $1[1] and j.id = %L', job.id
        ),
        array[job.account_id],
        job.id
      ) is not null then 1 else 0 end;
    end if;
  end loop;

  -- Over, by whomever: the job has ended.
  delete from credits.maintenance_failures as f
  where f.id in (
    select o.id
    from credits.maintenance_failures as o
    left join public.generation_jobs as j on o.account_id = j.account_id and o.job_id = j.id
    where o.task = 'generations' and o.job_id is not null and (j.id is null or j.finished_at is not null)
    -- Another run has it, or has just written it.
    for update of o skip locked
  );
  return swept;
end
$$;

comment on function credits.sweep_generations(integer) is
'Ends up to batch jobs whose deadline has passed, whatever became of the function that ran them; returns how many. '
'Leaves to the next time what others have locked, and all after a second, and notes what fails.';

-- sql/generation/sweep_grace.sql
create function credits.sweep_grace() returns interval
language sql
immutable
as $$
  select interval '45 seconds';
$$;

comment on function credits.sweep_grace() is
'How much longer than its job a hold lives, so that the sweep finds it: under a minute. Without a SET clause it is '
'planned as part of its caller.';

-- sql/maintenance/attempt.sql
create function credits.attempt(
  task credits.maintenance_task,
  statement text,
  accounts uuid[] default null,
  job_id uuid default null
) returns jsonb
language plpgsql
set search_path = ''
-- Who waits here has others wait: for what is locked already, and for the rest of the run.
set lock_timeout = '200ms'
as $$
declare
  answer jsonb;
begin
  execute statement into answer using accounts;
  return coalesce(answer, '{}');
exception
  -- OTHERS leaves out what a statement_timeout ends.
  when query_canceled or others then
    if cardinality(accounts) > 1 then
      raise log 'credits: maintenance could not do % of % accounts together: % %',
        task, cardinality(accounts), sqlstate, sqlerrm;
    else
      perform credits.note_failure(task, sqlstate, sqlerrm, accounts[1], job_id);
    end if;
    return null;
end
$$;

comment on function credits.attempt(credits.maintenance_task, text, uuid[], uuid) is
'Does a part of the maintenance, an SQL statement that may name accounts as $1, so that the others go on whatever '
'becomes of it. Returns what the statement does; null where it failed, and nothing of it is left but the note of the '
'failure (credits.note_failure): of the account, of the job, or of the sweep as a whole where there is neither. Of '
'several accounts none is noted: the caller tries fewer.';

-- sql/maintenance/maintain.sql
create procedure credits.maintain(
  settle_after interval default null,
  batch integer default 200,
  at_most interval default '8 seconds',
  inout more boolean default null
)
language plpgsql
-- A procedure with a SET clause may not commit.
as $$
declare
  ends_at constant timestamptz := clock_timestamp() + at_most;
  unfinished credits.maintenance_task[] := enum_range(null::credits.maintenance_task);
  again credits.maintenance_task[];
  current_task credits.maintenance_task;
  waiting uuid[];
  answer jsonb;
begin
  loop
    again := '{}';
    foreach current_task in array unfinished loop
      answer := credits.attempt(
        current_task,
        format('select credits.run_task(%L, %L, %L, %L)', current_task, batch, settle_after, waiting)
      );
      -- What was done stays, whatever becomes of the rest; and nobody waits longer than for a batch.
      commit;
      if answer ? 'waiting' then
        waiting := array(select jsonb_array_elements_text(answer -> 'waiting'));
      end if;
      if (answer ->> 'more')::boolean then
        again := again || current_task;
      end if;
    end loop;
    unfinished := again;
    exit when unfinished = '{}' or clock_timestamp() >= ends_at;
  end loop;
  more := unfinished <> '{}';
end
$$;

comment on procedure credits.maintain(interval, integer, interval, boolean) is -- noqa: LT01
'What pg_cron calls every ten seconds: does each task of credits.maintenance_task as credits.run_maintenance does, in '
'a transaction of its own, and those with more to do again, in turn, until at_most has passed. So no lock is held '
'longer than a batch takes, and what has piled up is worked off. settle_after: null for '
'billing_settings.settle_after. more: whether the time was not enough. Call it outside a transaction.';

-- sql/maintenance/maintenance_report.sql
create function public.maintenance_report() returns table (
  task text,
  account_id uuid,
  user_id uuid,
  job_id uuid,
  sqlstate text,
  message text,
  failures integer,
  first_at timestamptz,
  last_at timestamptz,
  retry_at timestamptz
)
language sql
stable
security definer
set search_path = ''
as $$
  select f.task::text, f.account_id, a.user_id, f.job_id, f.sqlstate, f.message, f.failures, f.first_at, f.last_at, f.retry_at
  from credits.maintenance_failures as f
  left join public.credit_accounts as a on f.account_id = a.id
  order by f.first_at;
$$;

comment on function public.maintenance_report() is
'Operator: what maintenance could not do and still cannot, oldest first; no row when all is well. task: settlement (of '
'an account), generations (the end of a job), allotments (the month of a plan), holds, stripe_payloads, '
'unclaimed_payments (a sweep as a whole). retry_at: when it is tried next.';

grant execute on function public.maintenance_report() to service_role;

-- sql/maintenance/note_failure.sql
create function credits.note_failure(
  task credits.maintenance_task,
  state text,
  message text,
  account_id uuid default null,
  job_id uuid default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  -- Of these classes Postgres's sentences name tables and constraints; the others' may quote values.
  told text := case
    when left(state, 2) in ('23', '25', '40', '42', '53', '54', '55', '57', '58', 'PT', 'XX') then left(message, 500)
  end;
begin
  raise warning 'credits: maintenance could not do % of account %, job %: % %', task, account_id, job_id, state, message;
  begin
    insert into credits.maintenance_failures as f (
      task, account_id, job_id, sqlstate, message, first_at, last_at, retry_at
    )
    values (
      note_failure.task, note_failure.account_id, note_failure.job_id, state, told, moment, moment,
      moment + interval '10 seconds'
    )
    on conflict on constraint maintenance_failures_task_account_id_job_id_key do update set
      sqlstate = excluded.sqlstate,
      message = excluded.message,
      failures = f.failures + 1,
      last_at = excluded.last_at,
      retry_at = moment + least(interval '10 seconds' * 2 ^ least(f.failures, 10), interval '1 hour');
  exception
    -- An operator may have its row locked.
    when query_canceled or others then
      raise warning 'credits: that could not be noted: % %', sqlstate, sqlerrm;
  end;
end
$$;

comment on function credits.note_failure(credits.maintenance_task, text, text, uuid, uuid) is
'Writes down that a part of the maintenance failed, so that an operator sees it: in the server''s log, and in '
'credits.maintenance_failures unless its row is locked. The caller is credits.attempt.';

-- sql/maintenance/run_maintenance.sql
create function credits.run_maintenance(
  settle_after interval default '0',
  batch integer default 200
) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  current_task credits.maintenance_task;
  answer jsonb;
  settlement jsonb;
begin
  foreach current_task in array enum_range(null::credits.maintenance_task) loop
    answer := credits.attempt(
      current_task, format('select credits.run_task(%L, %L, %L, null)', current_task, batch, settle_after)
    );
    if current_task = 'settlement' then
      settlement := answer;
    end if;
  end loop;
  return jsonb_build_object(
    'settled', coalesce((settlement ->> 'done')::integer, 0),
    'more', coalesce((settlement ->> 'more')::boolean and (settlement ->> 'done')::integer > 0, false)
  );
end
$$;

comment on function credits.run_maintenance(interval, integer) is
'Does each task of credits.maintenance_task once, in one bounded batch: settles accounts with ledger rows unsettled '
'for settle_after or longer, and those where lots or holds have expired; ends overdue generations, deletes old unused '
'holds, grants the months of plans with a monthly allotment, empties old payloads of Stripe''s and forgets what of '
'Stripe''s was none of ours. What fails is undone by itself and noted for maintenance_report, the rest goes on. Skips '
'what others have locked; run as many at once as you like. Returns {settled: accounts, more: whether to call again '
'now}. All in one transaction, for who has no choice: credits.maintain commits in between, and goes on while there is '
'more.';

-- sql/maintenance/run_task.sql
create function credits.run_task(
  task credits.maintenance_task,
  batch integer,
  settle_after interval,
  waiting uuid[]
) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  done integer;
  answer jsonb;
begin
  if exists (
    select from credits.maintenance_failures as f
    where f.task = run_task.task and f.account_id is null and f.job_id is null and f.retry_at > credits.now()
  ) then
    return null;
  end if;
  if task = 'settlement' then
    answer := credits.sweep_settlement(
      batch, coalesce(settle_after, (select s.settle_after from credits.billing_settings as s)), waiting
    );
  else
    execute format('select credits.%I($1)', 'sweep_' || task) into done using batch;
    answer := jsonb_build_object('done', done, 'more', done >= batch);
  end if;
  delete from credits.maintenance_failures as f
  where f.id in (
    select o.id from credits.maintenance_failures as o
    where o.task = run_task.task and o.account_id is null and o.job_id is null
    -- An operator has it: the next time.
    for update skip locked
  );
  return answer;
end
$$;

comment on function credits.run_task(credits.maintenance_task, integer, interval, uuid[]) is
'Does one batch of a task of the maintenance, unless it failed as a whole and its time has not come again. Returns '
'{done, more: whether to call again now}, of settlement also {waiting: the accounts to begin with then}. settle_after '
'(null: billing_settings.settle_after) and waiting are settlement''s. The caller is credits.attempt.';

-- sql/maintenance/schedule_maintenance.sql
create function credits.schedule_maintenance() returns text
language plpgsql
set search_path = ''
as $body$
begin
  if not exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    return 'pg_cron is not installed: enable it (Dashboard, Integrations, Cron), then: select credits.schedule_maintenance();';
  end if;
  -- One statement: pg_cron runs several in one transaction, which a procedure may not end.
  execute $job$
    select cron.schedule('credits-maintenance', '10 seconds', 'call credits.maintain()')
  $job$;
  return 'Scheduled every 10 seconds as the pg_cron job credits-maintenance.';
end
$body$;

comment on function credits.schedule_maintenance() is
'Has pg_cron call credits.maintain, where pg_cron is installed; says what it did. Safe to call again.';

select credits.schedule_maintenance();

-- sql/pricing/check_terms.sql
create function credits.check_terms(terms jsonb, unit text) returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  known constant text[] := array[
    'output', 'inputs', 'mask', 'max_n', 'max_prompt', 'options', 'deadline_seconds', 'charge_refusals'
  ];
  inputs jsonb := coalesce(terms -> 'inputs', '{}');
  wrong text;
  name text;
  spec jsonb;
  entry record;
begin
  if jsonb_typeof(terms) is distinct from 'object' or octet_length(terms::text) > 8192 then
    wrong := 'terms must be a JSON object of at most 8 KiB.';
  elsif terms - known <> '{}' then
    wrong := format(
      'terms know no %s, only %s.', (select min(o.k) from jsonb_object_keys(terms - known) as o (k)),
      array_to_string(known, ', ')
    );
  elsif coalesce(terms -> 'output' not in ('"image"', '"text"', '"video"'), false) then
    wrong := 'terms.output must be "image", "text" or "video".';
  elsif not credits.is_whole(terms -> 'max_n', 1, 1000) then
    wrong := 'terms.max_n must be a whole number from 1 to 1000.';
  elsif not credits.is_whole(terms -> 'max_prompt', 1, 1000000) then
    wrong := 'terms.max_prompt must be a whole number of characters from 1 to 1000000.';
  elsif not credits.is_whole(terms -> 'deadline_seconds', 5, 86400) then
    wrong := 'terms.deadline_seconds must be a whole number from 5 to 86400.';
  elsif coalesce(jsonb_typeof(terms -> 'charge_refusals') <> 'boolean', false) then
    wrong := 'terms.charge_refusals must be true or false.';
  elsif coalesce(jsonb_typeof(terms -> 'mask') <> 'boolean', false) then
    wrong := 'terms.mask must be true or false.';
  elsif jsonb_typeof(inputs) <> 'object' or inputs - array['min', 'max', 'credits'] <> '{}' then
    wrong := 'terms.inputs must be an object of min, max and credits.';
  elsif (terms ? 'inputs' and not inputs ? 'max') or not credits.is_whole(inputs -> 'max', 0, 16) then
    wrong := 'terms.inputs.max must be a whole number from 0 to 16.';
  elsif not credits.is_whole(inputs -> 'min', 0, (inputs ->> 'max')::integer) then
    wrong := 'terms.inputs.min must be a whole number from 0 to max.';
  elsif not credits.is_surcharge(inputs -> 'credits') then
    wrong := 'terms.inputs.credits must be from 0 to 1000000, with up to 4 decimals.';
  elsif terms -> 'mask' = 'true' and coalesce((inputs ->> 'max')::integer, 0) = 0 then
    wrong := 'terms.mask needs inputs.max from 1 on: a mask is for an image.';
  elsif coalesce(jsonb_typeof(terms -> 'options') <> 'object', false) then
    wrong := 'terms.options must be an object of options by name.';
  end if;
  if wrong is not null then
    perform credits.fail('PT400', wrong, '{}', 'supabase/README.md of supabase-credits, "Prices", has the terms of a price.');
  end if;

  for name, spec in select o.key, o.value from jsonb_each(terms -> 'options') as o (key, value) loop
    wrong := case
      when name !~ '^[a-z][a-z0-9_]{0,39}$' then 'is no name of an option: snake_case, up to 40 letters.'
      when jsonb_typeof(spec) <> 'object' or spec - array['values', 'min', 'max', 'default'] <> '{}'
        then 'must be an object of values, or of min and max, and default.'
      when (spec ? 'values') = (spec ?| array['min', 'max']) then 'must have either values, or min and max.'
      when spec ? 'values' and jsonb_typeof(spec -> 'values') not in ('array', 'object')
        then 'must have values as a list, or as an object of what each value adds in credits.'
      when spec ? 'values' then null
      when
        not (spec ? 'min' and spec ? 'max')
        or not credits.is_whole(spec -> 'max', -9007199254740991, 9007199254740991)
        then 'must have whole numbers as min and max.'
      when not credits.is_whole(spec -> 'min', -9007199254740991, (spec ->> 'max')::numeric)
        then 'must have a whole number as min, not over max.'
    end;
    if wrong is null and jsonb_typeof(spec -> 'values') = 'array' then
      if spec -> 'values' = '[]' or exists (
        select from jsonb_array_elements(spec -> 'values') as a (v)
        where not (
          jsonb_typeof(v) = 'string' and char_length(v #>> '{}') between 1 and 100
          or jsonb_typeof(v) = 'number' and credits.is_whole(v, -9007199254740991, 9007199254740991)
        )
      ) then
        wrong := 'must list words and whole numbers, one at least.';
      end if;
    elsif wrong is null and jsonb_typeof(spec -> 'values') = 'object' then
      for entry in select v.key, v.value from jsonb_each(spec -> 'values') as v (key, value) loop
        if char_length(entry.key) not between 1 and 100 or not credits.is_surcharge(entry.value) then
          wrong := 'must say of each value what it adds: from 0 to 1000000 credits, with up to 4 decimals.';
        end if;
      end loop;
      if spec -> 'values' = '{}' then
        wrong := 'must have a value at least.';
      elsif
        wrong is null
        and not spec ? 'default'
        and exists (select from jsonb_each_text(spec -> 'values') as v (key, value) where v.value::numeric <> 0)
      then
        -- What the provider takes when nothing is said could be its dearest.
        wrong := 'must have a default, since some of its values cost more.';
      end if;
    end if;
    if wrong is null and spec ? 'default' and credits.option_surcharge(spec, spec -> 'default') is distinct from 0 then
      wrong := 'must have a default that is one of its values and adds nothing: credits_per_unit is its price.';
    end if;
    if wrong is null and name = 'duration' and unit = 'second' then
      if
        not spec ? 'default'
        or not credits.is_whole(spec -> 'min', 1, 86400) or not credits.is_whole(spec -> 'max', 1, 86400)
        or exists (
          select from jsonb_array_elements(
            case jsonb_typeof(spec -> 'values') when 'array' then spec -> 'values' else '[]' end
          ) as a (v)
          where not credits.is_whole(a.v, 1, 86400)
        )
        or exists (
          select from jsonb_object_keys(
            case jsonb_typeof(spec -> 'values') when 'object' then spec -> 'values' else '{}' end
          ) as o (k)
          where o.k !~ '^[1-9][0-9]{0,4}$'
        )
      then
        wrong := 'must have whole seconds from 1 to 86400 and a default, since seconds are what the price counts.';
      end if;
    end if;
    if wrong is not null then
      perform credits.fail(
        'PT400', format('terms.options.%s %s', name, wrong), jsonb_build_object('option', name),
        'supabase/README.md of supabase-credits, "Prices", has the terms of a price.'
      );
    end if;
  end loop;
end
$$;

comment on function credits.check_terms(jsonb, text) is
'PT400 unless pricing_tiers.terms are {output: "image" (default), "text" or "video"; inputs: {min, max: images that '
'the user gives, up to 16 (default: none), credits: what each beyond min adds to a unit}; mask: whether one may come '
'with them; max_n: outputs of a request; max_prompt: characters; deadline_seconds: 5 to 86400, default 120; '
'charge_refusals: whether a refusal by the provider''s policy is charged, default false; options: {NAME: {values: '
'[...] or {VALUE: credits that it adds to a unit}, or min and max of a whole number; default: what is sent when the '
'user does not say}}}. With the unit "second" a unit is a second of the option duration.';

-- sql/pricing/generation_price.sql
create function credits.generation_price(
  operation text,
  quantity integer,
  options jsonb,
  inputs integer,
  mask boolean,
  prompt_length integer,
  out version bigint,
  out unit_price numeric,
  out units integer,
  out amount bigint,
  out settled jsonb,
  out refusal text
)
language plpgsql
stable
set search_path = ''
as $$
declare
  unit text;
  terms jsonb;
  least_images integer;
  most_images integer;
  most integer := credits.max_quantity();
  name text;
  spec jsonb;
  adds numeric;
begin
  select p.version, p.credits_per_unit, t.unit, t.terms into version, unit_price, unit, terms
  from credits.price(generation_price.operation, 1) as p
  inner join public.pricing_tiers as t on p.id = t.id;
  if not found then
    return;
  end if;
  settled := coalesce(options, '{}');
  least_images := coalesce((terms #>> '{inputs,min}')::integer, 0);
  most_images := coalesce((terms #>> '{inputs,max}')::integer, 0);
  inputs := coalesce(inputs, least_images);

  refusal := case
    when quantity is null or quantity < 1 then 'n is a whole number from 1 on.'
    when quantity > coalesce((terms ->> 'max_n')::integer, most)
      then format('n is at most %s for %s.', coalesce((terms ->> 'max_n')::integer, most), operation)
    when prompt_length > (terms ->> 'max_prompt')::integer
      then format('The prompt is longer than the %s characters of %s.', terms ->> 'max_prompt', operation)
    when inputs > most_images and most_images = 0 then format('%s takes no images.', operation)
    when inputs > most_images and most_images = 1 then format('%s takes one image.', operation)
    when inputs > most_images then format('%s takes at most %s images.', operation, most_images)
    when inputs < 0 then 'inputs is a number of images.'
    when inputs < least_images and least_images = 1 then format('%s needs an image in inputs.', operation)
    when inputs < least_images then format('%s needs %s images in inputs.', operation, least_images)
    when mask and not coalesce((terms -> 'mask')::boolean, false) then format('%s takes no mask.', operation)
    when mask and inputs = 0 then 'A mask needs an image in inputs.'
    when jsonb_typeof(settled) <> 'object' then 'options is an object.'
  end;
  if refusal is not null then
    return;
  end if;
  unit_price := unit_price + coalesce((terms #>> '{inputs,credits}')::numeric, 0) * (inputs - least_images);

  terms := coalesce(terms -> 'options', '{}');
  select min(o.key) into name from jsonb_object_keys(settled) as o (key) where not terms ? o.key;
  if name is not null then
    refusal := format(
      '%s knows these options: %s.', operation,
      coalesce((select string_agg(o.key, ', ' order by o.key) from jsonb_object_keys(terms) as o (key)), 'none')
    );
    return;
  end if;
  for name, spec in select o.key, o.value from jsonb_each(terms) as o (key, value) loop
    if settled ? name then
      adds := credits.option_surcharge(spec, settled -> name);
      if adds is null then
        refusal := format(
          'The option %s of %s is %s.', name, operation,
          case jsonb_typeof(spec -> 'values')
            when 'array'
              then 'one of ' || (select string_agg(a.v, ', ') from jsonb_array_elements_text(spec -> 'values') as a (v))
            when 'object'
              then 'one of ' || (select string_agg(a.v, ', ') from jsonb_object_keys(spec -> 'values') as a (v))
            else format('a whole number from %s to %s', spec ->> 'min', spec ->> 'max')
          end
        );
        return;
      end if;
      unit_price := unit_price + adds;
    elsif spec ? 'default' then
      settled := settled || jsonb_build_object(name, spec -> 'default');
    end if;
  end loop;

  if unit = 'second' and not settled ? 'duration' then
    refusal := format(
      '%s is sold by the second, but its price has no option duration; tell the app''s operator.', operation
    );
  elsif unit = 'second' and quantity::bigint * (settled ->> 'duration')::bigint > most then
    refusal := format('n times duration is at most %s seconds.', most);
  else
    units := quantity * case when unit = 'second' then (settled ->> 'duration')::integer else 1 end;
    amount := ceil(unit_price * units);
  end if;
end
$$;

comment on function credits.generation_price(text, integer, jsonb, integer, boolean, integer) is
'What a generation of quantity outputs with these options, number of input images (null: as few as it takes), mask '
'and length of prompt costs now, by the pricing_tiers row in force and its terms: version; unit_price, which is '
'credits_per_unit and all that options and inputs add; units (with the unit "second": quantity times duration); '
'amount in credits, ceil(unit_price * units); settled: the options with defaults, as the provider gets them. '
'refusal, a sentence for the user, in place of an amount where it does not fit the terms. No version: the operation '
'is not sold.';

-- sql/pricing/is_surcharge.sql
create function credits.is_surcharge(value jsonb) returns boolean
language sql
immutable
set search_path = ''
as $$
  select case
    when value is null then true
    when jsonb_typeof(value) <> 'number' then false
    else (value #>> '{}')::numeric between 0 and 1000000 and scale((value #>> '{}')::numeric) <= 4
  end;
$$;

comment on function credits.is_surcharge(jsonb) is
'Whether a JSON value is an amount of credits that can be added to a price (0 to 1,000,000, up to 4 decimals), or is '
'not there.';

-- sql/pricing/is_whole.sql
create function credits.is_whole(value jsonb, lowest numeric, highest numeric) returns boolean
language sql
immutable
set search_path = ''
as $$
  select case
    when value is null then true
    when jsonb_typeof(value) <> 'number' or (value #>> '{}') !~ '^-?[0-9]{1,16}$' then false
    else (value #>> '{}')::numeric between lowest and highest
  end;
$$;

comment on function credits.is_whole(jsonb, numeric, numeric) is
'Whether a JSON value is a whole number in the range, or is not there.';

-- sql/pricing/max_quantity.sql
create function credits.max_quantity() returns integer
language plpgsql
stable
set search_path = ''
as $$
begin
  return (select s.max_quantity from credits.billing_settings as s);
end
$$;

comment on function credits.max_quantity() is
'billing_settings.max_quantity. A function, so that a statement reads the settings only where it comes to ask.';

-- sql/pricing/option_surcharge.sql
create function credits.option_surcharge(spec jsonb, value jsonb) returns numeric
language sql
immutable
set search_path = ''
as $$
  select case jsonb_typeof(spec -> 'values')
    when 'array' then (
      select 0
      from jsonb_array_elements(spec -> 'values') as v (item)
      where v.item = option_surcharge.value and v.item::text = option_surcharge.value::text
    )
    when 'object' then (
      select v.adds::numeric
      from jsonb_each_text(spec -> 'values') as v (item, adds)
      where
        v.item = option_surcharge.value #>> '{}'
        and jsonb_typeof(option_surcharge.value) = case when v.item ~ '^-?[0-9]+$' then 'number' else 'string' end
    )
    else case
      -- Only then is it a number that a comparison can take.
      when jsonb_typeof(value) <> 'number' or (value #>> '{}') !~ '^-?[0-9]{1,16}$' then null
      when (value #>> '{}')::numeric between (spec ->> 'min')::numeric and (spec ->> 'max')::numeric then 0
    end
  end;
$$;

comment on function credits.option_surcharge(jsonb, jsonb) is
'What a value of an option adds to the price of a unit, in credits, by the option''s part of pricing_tiers.terms; null '
'for a value that it does not have.';

-- sql/pricing/price.sql
create function credits.price(operation text, quantity integer) returns table (
  id bigint,
  credits_per_unit numeric,
  version bigint,
  credits bigint
)
language sql
stable
as $$
  select
    t.id,
    t.credits_per_unit,
    t.version,
    case when price.quantity = 1 or price.quantity between 1 and credits.max_quantity()
    then ceil(t.credits_per_unit * price.quantity)::bigint end
  from public.pricing_tiers as t
  where t.operation = price.operation and t.active and t.effective_from <= credits.now()
  order by t.effective_from desc
  limit 1;
$$;

comment on function credits.price(text, integer) is
'What the quantity of the operation costs now, by the pricing_tiers row in force (active, in effect, the latest): its '
'id, credits for one unit, version, and the whole, ceil(credits_per_unit * quantity), in credits. No row for an '
'operation that is not sold, null credits for a quantity out of range: then call credits.refuse_price. The one place '
'that looks a price up; credits.generation_price adds what options and inputs cost. Every spend runs it: without a '
'SET clause it is planned as part of its caller, and one unit is priced without looking up the limit.';

-- sql/pricing/price_in_force_id.sql
create function credits.price_in_force_id(operation text) returns bigint
language sql
stable
security definer
set search_path = ''
as $$
  select p.id from credits.price(price_in_force_id.operation, 1) as p;
$$;

comment on function credits.price_in_force_id(text) is
'Id of the price in force; what the read policy of pricing_tiers asks.';

grant execute on function credits.price_in_force_id(text) to anon, authenticated;

create policy prices_in_force on public.pricing_tiers for select to anon, authenticated
using (id = credits.price_in_force_id(operation));

create policy pricing_admin_edits on public.pricing_tiers for all to pricing_admin
using (true) with check (true);

-- sql/pricing/quote_credits.sql
create function public.quote_credits(
  operation text,
  quantity integer default 1,
  options jsonb default null,
  inputs integer default null,
  mask boolean default false,
  prompt_length integer default 0
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  price record;
  generation record;
  available bigint;
  frozen boolean;
begin
  perform credits.caller();
  if options is null then
    select p.credits, p.version into price from credits.price(operation, quantity) as p;
  else
    select g.amount as credits, g.version, g.refusal into generation
    from credits.generation_price(
      quote_credits.operation, quote_credits.quantity, quote_credits.options, quote_credits.inputs, quote_credits.mask,
      quote_credits.prompt_length
    ) as g;
    if generation.refusal is not null then
      perform credits.fail(
        'PT400', generation.refusal, jsonb_build_object('operation', operation),
        'The terms of an operation are in its row of pricing_tiers.'
      );
    end if;
    price := generation;
  end if;
  if price.credits is null then
    perform credits.refuse_price(operation, quantity);
  end if;
  select p.available, p.frozen_at is not null into available, frozen from credits.my_position() as p;
  available := coalesce(available, 0);
  return jsonb_build_object(
    'operation', operation,
    'quantity', quantity,
    'credits', price.credits,
    'price_version', price.version,
    'available', available,
    'affordable', available >= price.credits and not coalesce(frozen, false)
  );
end
$$;

comment on function public.quote_credits(text, integer, jsonb, integer, boolean, integer) is
'What the operation would cost the signed-in user now, without spending: {operation, quantity, credits, '
'price_version, available, affordable}. Without options: quantity units, as consume_credits and hold_credits sell '
'them. With options, {} included: quantity outputs of generate with them, with inputs images (as few as it takes '
'when left out), and a mask. Not affordable while the account is frozen. Errors: PT400 quantity or what does not fit '
'the price''s terms, PT403 not signed in, PT404 unknown operation.';

grant execute on function public.quote_credits(text, integer, jsonb, integer, boolean, integer) to authenticated;

-- sql/pricing/record_price_change.sql
create function credits.record_price_change() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    insert into credits.pricing_tier_history (tier_id, action, old) values (old.id, 'delete', to_jsonb(old));
  elsif tg_op = 'INSERT' then
    insert into credits.pricing_tier_history (version, tier_id, action, new)
    values (new.version, new.id, 'insert', to_jsonb(new));
  elsif new.version <> old.version then
    insert into credits.pricing_tier_history (version, tier_id, action, old, new)
    values (new.version, new.id, 'update', to_jsonb(old), to_jsonb(new));
  end if;
  return null;
end
$$;

comment on function credits.record_price_change() is 'Writes each change of a price to credits.pricing_tier_history.';

create trigger record_price_change after insert or update or delete on public.pricing_tiers
for each row execute function credits.record_price_change();

-- sql/pricing/refuse_price.sql
create function credits.refuse_price(operation text, quantity integer) returns void
language plpgsql
stable
set search_path = ''
as $$
declare
  most integer := credits.max_quantity();
begin
  if quantity between 1 and most then
    perform credits.fail(
      'PT404', 'There is no such operation.', jsonb_build_object('operation', left(operation, 100)),
      'The operations on sale are the rows of pricing_tiers.'
    );
  end if;
  perform credits.fail(
    'PT400', format('quantity must be a whole number from 1 to %s.', most),
    jsonb_build_object('quantity', quantity, 'limit', most), 'Send a quantity in that range.'
  );
end
$$;

comment on function credits.refuse_price(text, integer) is
'Why credits.price found no price: PT400 quantity, PT404 operation.';

-- sql/pricing/version_price.sql
create function credits.version_price() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
begin
  perform credits.check_terms(new.terms, new.unit);
  if tg_op = 'UPDATE' then
    if new is not distinct from old then
      return new;
    end if;
    -- A price in force that is edited with a future date: what is in force stays in a row of its own until then.
    if old.active and old.effective_from <= moment and new.effective_from > moment then
      insert into public.pricing_tiers (
        operation, provider, model, unit, credits_per_unit, effective_from, active, metadata, terms
      )
      values (
        old.operation, old.provider, old.model, old.unit, old.credits_per_unit,
        -- The old date is still taken by the row that is being changed.
        old.effective_from + interval '1 microsecond', true, old.metadata, old.terms
      );
    end if;
  end if;
  new.version := nextval(pg_get_serial_sequence('credits.pricing_tier_history', 'version'));
  return new;
end
$$;

comment on function credits.version_price() is
'Gives each changed price a new version, and keeps the price in force when an edit schedules its successor. PT400: its '
'terms are not as credits.check_terms wants them.';

create trigger version_price before insert or update on public.pricing_tiers
for each row execute function credits.version_price();

-- sql/usage/credit_history.sql
create function public.credit_history(
  kinds text[] default null,
  operations text[] default null,
  "from" date default null,
  "to" date default null,
  before bigint default null,
  page_size integer default 50
) returns json
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.account_of(credits.caller());
  zone text := credits.account_zone(me);
  -- What one call looks at, at most: a rare row among very many is found by several.
  most constant integer := 5000;
  known constant text[] := enum_range(null::public.transaction_kind)::text[];
  -- Of these the small tables know where they are.
  rare constant text[] := array['grant', 'refund', 'clawback', 'expiry'];
  wanted public.transaction_kind[];
  bottom bigint := 0::bigint;
  lowest bigint;
  highest bigint;
  last_use date;
  ids bigint[];
  page bigint[];
  next_id bigint;
begin
  if not kinds <@ known or cardinality(kinds) = 0 or array_position(kinds, null) is not null then
    perform credits.fail(
      'PT400', format('kinds must be of these: %s.', array_to_string(known, ', ')),
      jsonb_build_object('kinds', to_jsonb(kinds[:10])), 'Leave it out for all.'
    );
  elsif cardinality(operations) not between 1 and 50 then
    perform credits.fail(
      'PT400', 'operations must be 1 to 50 names.', jsonb_build_object('limit', 50), 'Leave it out for all.'
    );
  elsif page_size is null or page_size not between 1 and 200 then
    perform credits.fail(
      'PT400', 'page_size must be from 1 to 200.', jsonb_build_object('page_size', page_size, 'limit', 200),
      'Leave it out for 50.'
    );
  elsif before < 1 then
    perform credits.fail(
      'PT400', 'before must be a row''s id.', jsonb_build_object('before', before),
      'Send what the answer before had as next.'
    );
  elsif
    "from" not between date '2000-01-01' and date '9999-12-31'
    or "to" not between date '2000-01-01' and date '9999-12-31'
  then
    perform credits.fail(
      'PT400', 'from and to must be from 2000-01-01 to 9999-12-31.', jsonb_build_object('from', "from", 'to', "to"),
      'Send dates such as 2026-11-24.'
    );
  elsif "to" <= "from" then
    perform credits.fail(
      'PT400', 'to must be after from.', jsonb_build_object('from', "from", 'to', "to"),
      'The range ends before the day to: for one day it is the next.'
    );
  end if;

  wanted := kinds::public.transaction_kind[];

  -- The rows are numbered in the order of their time. More at both ends: days of change, and clocks that were set.
  highest := least(
    coalesce((select a.last_entry from public.credit_accounts as a where a.id = me), 0),
    before - 1,
    case when "to" is not null then
      credits.entries_before(me, "to"::timestamp at time zone zone + interval '3 hours')
    end
  );
  if "from" is not null then
    bottom := credits.entries_before(me, "from"::timestamp at time zone zone - interval '3 hours');
  end if;

  if kinds <@ rare then
    select array_agg(c.id) into ids
    from (
      select u.id
      from (
        (
          select g.transaction_id as id from credits.credit_grants as g
          where g.account_id = me and g.transaction_id > bottom and g.transaction_id <= highest
          order by g.transaction_id desc
          limit most
        )
        union
        (
          select r.transaction_id from credits.lot_returns as r
          where
            r.account_id = me and r.transaction_id > bottom and r.transaction_id <= highest
            and 'refund' = any(kinds)
          order by r.transaction_id desc
          limit most
        )
        union
        (
          select c.transaction_id from credits.clawbacks as c
          where
            c.account_id = me and c.transaction_id > bottom and c.transaction_id <= highest
            and 'clawback' = any(kinds)
          order by c.transaction_id desc
          limit most
        )
        union
        -- An expiry begins a payment.
        (
          select p.first_id from credits.lot_payments as p
          where p.account_id = me and p.first_id > bottom and p.first_id <= highest and 'expiry' = any(kinds)
          order by p.first_id desc
          limit most
        )
      ) as u
      order by u.id desc
      limit most
    ) as c;
    ids := coalesce(ids, '{}');
    lowest := case when cardinality(ids) = most then ids[most] - 1 else bottom end;
    select array_agg(f.id) into page
    from (
      select t.id
      from unnest(ids) as i (id)
      inner join public.credit_transactions as t on t.account_id = me and i.id = t.id
      where credits.is_wanted(t, wanted, operations, zone, "from", "to")
      order by t.id desc
      limit page_size
    ) as f;
  else
    -- Past what is not settled yet the days tell where an operation was used last.
    if
      operations is not null
      and highest <= (select a.settled_through from public.credit_accounts as a where a.id = me)
    then
      select max(u.day) into last_use
      from credits.usage_days as u
      inner join credits.pricing_tier_history as h on u.price_version = h.version
      where
        u.account_id = me and h.new ->> 'operation' = any(operations)
        and u.day <= (
          select (t.created_at at time zone zone)::date + 1 from public.credit_transactions as t
          where t.account_id = me and t.id = highest
        );
      highest := case when last_use is null then bottom else least(
        highest, credits.entries_before(me, (last_use + 1)::timestamp at time zone zone + interval '3 hours')
      ) end;
    end if;
    lowest := greatest(bottom, highest - most);
    select array_agg(f.id) into page
    from (
      select t.id from public.credit_transactions as t
      where
        (t.account_id, t.id) > (me, lowest) and (t.account_id, t.id) <= (me, highest)
        and credits.is_wanted(t, wanted, operations, zone, "from", "to")
      order by t.account_id desc, t.id desc
      limit page_size
    ) as f;
  end if;

  if cardinality(page) = page_size then
    next_id := page[page_size];
  elsif highest > 0 then
    next_id := lowest + 1;
  end if;
  if next_id <= bottom + 1 then
    next_id := null;
  end if;

  return json_build_object(
    'rows', coalesce(
      (
        select
          json_agg(
            json_build_object(
              'id', t.id,
              'created_at', t.created_at,
              'kind', t.kind,
              'amount', t.amount,
              'balance_after', t.balance_after,
              'operation', t.operation,
              'provider', h.new ->> 'provider',
              'model', h.new ->> 'model',
              'quantity', t.quantity,
              'unit_price', t.unit_price,
              'price_version', t.price_version,
              'related_id', t.related_id,
              'hold_id', t.hold_id,
              'source', (
                select min(g.source) from credits.credit_grants as g
                where g.account_id = me and g.transaction_id = t.id
              ),
              'cause', c.cause,
              'metadata', t.metadata
            )
            order by t.id desc
          )
        from unnest(page) as i (id)
        inner join public.credit_transactions as t on t.account_id = me and i.id = t.id
        left join credits.pricing_tier_history as h on t.price_version = h.version
        left join credits.clawbacks as c on t.account_id = c.account_id and t.id = c.transaction_id
      ),
      '[]'
    ),
    'next', next_id,
    'zone', zone,
    'as_of', credits.now()
  );
end
$$;

comment on function public.credit_history(text[], text[], date, date, bigint, integer) is
'The signed-in user''s ledger, newest first, by kinds, operations and days of their time zone, from the day "from" '
'on and before the day "to". page_size: 1 to 200; before: what the page before had as next. {rows: [{id, created_at, '
'kind, amount, balance_after, operation, provider, model, quantity, unit_price, price_version, related_id, hold_id, '
'source: of a lot that it made, cause: of a clawback, metadata}], next, zone, as_of}. A call looks at a bounded '
'number of rows: go on while next is not null, also after a page that is not full. Errors: PT400, PT403 not signed '
'in.';

grant execute on function public.credit_history(text[], text[], date, date, bigint, integer) to authenticated;

-- sql/usage/credit_lots.sql
create function public.credit_lots(before bigint default null, page_size integer default 20) returns json
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.account_of(credits.caller());
  moment timestamptz := credits.now();
  -- Of those with something left, the first to burn.
  most constant integer := 200;
  account record;
  answer json;
begin
  if page_size is null or page_size not between 1 and 200 then
    perform credits.fail(
      'PT400', 'page_size must be from 1 to 200.', jsonb_build_object('page_size', page_size, 'limit', 200),
      'Leave it out for 20.'
    );
  elsif before < 1 then
    perform credits.fail(
      'PT400', 'before must be a lot''s id.', jsonb_build_object('before', before),
      'Send what the answer before had as next.'
    );
  end if;
  select p.balance, p.available, p.held into account from credits.my_position() as p;

  with open as materialized (
    select
      l.id,
      l.remaining - coalesce(d.credits, 0) as remaining,
      -- Credits that only a hold keeps go before those that would stay.
      row_number() over (
        order by case when l.expires_at <= moment then l.expires_at end nulls last, b.burn_position
      ) as position
    from credits.lots_as_of_now(me) as l
    inner join credits.lots_in_burn_order as b on b.account_id = me and l.id = b.id
    left join credits.due_expiries(me, moment) as d on l.id = d.grant_id
    where l.remaining > coalesce(d.credits, 0)
  ),

  ended as materialized (
    select g.id from credits.credit_grants as g
    where
      g.account_id = me and (credit_lots.before is null or g.id < credit_lots.before)
      and g.id not in (select o.id from open as o)
    order by g.id desc
    limit page_size + 1
  ),

  lot as materialized (
    select
      o.position,
      g.*,
      coalesce(o.remaining, 0) as left_now
    from (
      select o.id, o.remaining, o.position from open as o where o.position <= most
      union all
      select e.id, null, null from (select x.id from ended as x order by x.id desc limit page_size) as e
    ) as o
    inner join credits.credit_grants as g on g.account_id = me and o.id = g.id
  ),

  -- What is written off already, and what only has not been settled.
  expired as materialized (
    select w.grant_id, sum(w.credits)::bigint as credits
    from (
      select p.grant_id, p.first_amount as credits
      from credits.lot_payments as p
      inner join public.credit_transactions as t
        on p.account_id = t.account_id and p.first_id = t.id and t.kind = 'expiry'
      where p.account_id = me and p.grant_id in (select l.id from lot as l)
      union all
      select d.grant_id, d.credits from credits.due_expiries(me, moment) as d
    ) as w
    group by w.grant_id
  ),

  told as (
    select
      l.id,
      l.position,
      json_build_object(
        'id', l.id,
        'source', l.source,
        'state', case
          when l.position is not null and l.expires_at <= moment then 'lapsed'
          when l.position is not null then 'active'
          when x.credits > 0 then 'expired'
          else 'used'
        end,
        'position', l.position,
        'amount', l.amount,
        'remaining', l.left_now,
        'used', l.amount - l.left_now - coalesce(x.credits, 0),
        'expired', coalesce(x.credits, 0),
        'expires_at', l.expires_at,
        'granted_at', l.created_at,
        'promotional', l.promotional,
        'priority', l.priority,
        'transaction_id', l.transaction_id
      ) as lot
    from lot as l
    left join expired as x on l.id = x.grant_id
  )

  select
    json_build_object(
      'balance', coalesce(account.balance, 0),
      'available', greatest(0, coalesce(account.available, 0)),
      'held', coalesce(account.held, 0),
      'debt', greatest(0, -coalesce(account.balance, 0)),
      'zone', credits.account_zone(me),
      'as_of', moment,
      'open', coalesce((select json_agg(t.lot order by t.position) from told as t where t.position is not null), '[]'),
      'open_count', (select count(*) from open),
      'ended', coalesce((select json_agg(t.lot order by t.id desc) from told as t where t.position is null), '[]'),
      'next', case
        when (select count(*) from ended) > page_size then (select min(t.id) from told as t where t.position is null)
      end
    )
  into answer;
  return answer;
end
$$;

comment on function public.credit_lots(bigint, integer) is
'The signed-in user''s lots of credits, as of now. {balance, available, held, debt, zone, as_of, open: those with '
'something left in burn order, the first 200 of open_count, ended: the others, newest first, page_size (1 to 200) of '
'them, next: the before of the next page, null at the end}. A lot: {id, source, state, position: in burn order, '
'amount, remaining, used: what clawbacks took included, expired, expires_at, granted_at, promotional, priority, '
'transaction_id}; state: active, lapsed (expired, but kept by an open hold), used, expired. Errors: PT400, PT403 not '
'signed in.';

grant execute on function public.credit_lots(bigint, integer) to authenticated;

-- sql/usage/credit_usage.sql
create function public.credit_usage(
  "from" date default null,
  "to" date default null,
  grain text default 'day',
  by text default 'operation',
  filter jsonb default '{}',
  compare boolean default false
) returns json
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.account_of(credits.caller());
  zone text := credits.account_zone(me);
  moment timestamptz := credits.now();
  last_day date := coalesce("to", (moment at time zone zone)::date + 1);
  first_day date := coalesce("from", last_day - case when grain = 'hour' then 1 else 30 end);
  chosen jsonb := credits.usage_filter(filter);
  before_day date;
  days date[];
  hours timestamptz[];
  answer json;
begin
  if grain is null or grain not in ('hour', 'day', 'week', 'month') then
    perform credits.fail(
      'PT400', 'grain must be hour, day, week or month.', jsonb_build_object('grain', left(grain, 100)),
      'Leave it out for days.'
    );
  elsif by is null or by not in ('operation', 'provider', 'model') then
    perform credits.fail(
      'PT400', 'by must be operation, provider or model.', jsonb_build_object('by', left(by, 100)),
      'Usage can be told apart by these.'
    );
  elsif first_day < date '2000-01-01' or last_day > date '9999-12-31' then
    perform credits.fail(
      'PT400', 'from and to must be from 2000-01-01 to 9999-12-31.',
      jsonb_build_object('from', first_day, 'to', last_day), 'Send dates such as 2026-11-24.'
    );
  elsif last_day <= first_day then
    perform credits.fail(
      'PT400', 'to must be after from.', jsonb_build_object('from', first_day, 'to', last_day),
      'The range ends before the day to: for one day it is the next.'
    );
  elsif grain = 'hour' and last_day - first_day > 7 then
    perform credits.fail(
      'PT400', 'By the hour a range has at most 7 days.', jsonb_build_object('from', first_day, 'to', last_day),
      'Ask for fewer days, or for grain day.'
    );
  elsif last_day > first_day + interval '2 years' then
    perform credits.fail(
      'PT400', 'A range has at most 2 years.', jsonb_build_object('from', first_day, 'to', last_day),
      'Ask for one part after the other.'
    );
  end if;

  if grain = 'hour' then
    -- Clocks of all zones differ by quarters of an hour; on the days of a change an hour is there twice, or not at all.
    select array_agg(s.start order by s.start) into hours
    from (
      select min(q.at) as start
      from generate_series(
        first_day::timestamp at time zone 'UTC' - interval '1 day',
        last_day::timestamp at time zone 'UTC' + interval '1 day',
        interval '15 minutes'
      ) as q (at)
      where (q.at at time zone zone)::date >= first_day and (q.at at time zone zone)::date < last_day
      group by date_trunc('hour', q.at, zone)
    ) as s;
  end if;
  select array_agg(s.start order by s.start) into days
  from (
    select distinct
      greatest(first_day, date_trunc(case when grain = 'hour' then 'day' else grain end, d.day)::date) as start
    from generate_series(first_day::timestamp, last_day - 1, interval '1 day') as d (day)
  ) as s;
  if compare then
    before_day := case
      when extract(day from first_day) = 1 and extract(day from last_day) = 1 then first_day - age(last_day, first_day)
      else first_day - (last_day - first_day)
    end;
  end if;

  with used as materialized (
    select true as is_now, d.*
    from credits.usage_by_day(me, last_day, days) as d
    where hours is null
    union all
    select true as is_now, h.*
    from credits.usage_by_hour(
      me,
      (
        select max(q.at) + interval '15 minutes'
        from generate_series(
          hours[cardinality(hours)], hours[cardinality(hours)] + interval '2 hours', interval '15 minutes'
        ) as q (at)
        where (q.at at time zone zone)::date < last_day
      ),
      hours
    ) as h
    where hours is not null
    union all
    select false as is_now, b.*
    from credits.usage_by_day(me, first_day, array[before_day]) as b
    where before_day is not null
  ),

  priced as materialized (
    select v.price_version, coalesce(h.new ->> by, '') as name
    from (select distinct u.price_version from used as u) as v
    left join credits.pricing_tier_history as h on v.price_version = h.version
    where
      not exists (
        select from jsonb_each(chosen) as f (key, names) where not coalesce(f.names ? (h.new ->> f.key), false)
      )
  ),

  -- By group, by bucket, and all together.
  cell as materialized (
    select
      u.is_now,
      grouping(p.name) = 1 as is_all,
      grouping(u.bucket) = 1 as is_total,
      p.name,
      u.bucket,
      coalesce(sum(u.transactions), 0)::bigint as transactions,
      coalesce(sum(u.quantity), 0)::bigint as quantity,
      coalesce(sum(u.spent), 0)::bigint as spent,
      coalesce(sum(u.refunded), 0)::bigint as refunded,
      coalesce(sum(u.spent - u.refunded_of), 0)::bigint as net
    from used as u
    inner join priced as p on u.price_version = p.price_version
    group by u.is_now, grouping sets ((p.name, u.bucket), (u.bucket), (p.name), ())
  ),

  total as materialized (
    select
      c.is_now,
      c.is_all,
      c.name,
      c.spent,
      json_build_object(
        'transactions', c.transactions, 'quantity', c.quantity, 'spent', c.spent, 'refunded', c.refunded,
        'net_by_day_of_use', c.net
      ) as figures
    from cell as c
    where c.is_total
  ),

  line as materialized (
    select
      w.is_all,
      w.name,
      json_build_object(
        'transactions', json_agg(coalesce(c.transactions, 0) order by n.bucket),
        'quantity', json_agg(coalesce(c.quantity, 0) order by n.bucket),
        'spent', json_agg(coalesce(c.spent, 0) order by n.bucket),
        'refunded', json_agg(coalesce(c.refunded, 0) order by n.bucket),
        'net_by_day_of_use', json_agg(coalesce(c.net, 0) order by n.bucket)
      ) as series
    from (
      select true as is_all, null as name
      union all
      select false, t.name from total as t where t.is_now and not t.is_all
    ) as w
    cross join generate_series(1, coalesce(cardinality(hours), cardinality(days))) as n (bucket)
    left join cell as c
      on
        c.is_now and not c.is_total and w.is_all = c.is_all and w.name is not distinct from c.name
        and n.bucket = c.bucket
    group by w.is_all, w.name
  )

  select
    json_build_object(
      'from', first_day,
      'to', last_day,
      'grain', grain,
      'by', by,
      'filter', chosen,
      'zone', zone,
      'as_of', moment,
      'starts', coalesce(to_json(hours), to_json(days)),
      'totals', coalesce(
        (select t.figures from total as t where t.is_now and t.is_all),
        json_build_object('transactions', 0, 'quantity', 0, 'spent', 0, 'refunded', 0, 'net_by_day_of_use', 0)
      ),
      'series', (select l.series from line as l where l.is_all),
      'groups', coalesce(
        (
          select
            json_agg(
              json_build_object('group', t.name, 'totals', t.figures, 'series', l.series) order by t.spent desc, t.name
            )
          from total as t
          inner join line as l on not l.is_all and t.name = l.name
          where t.is_now and not t.is_all
        ),
        '[]'
      ),
      'before', case when before_day is not null then json_build_object(
        'from', before_day,
        'to', first_day,
        'totals', coalesce(
          (select t.figures from total as t where not t.is_now and t.is_all),
          json_build_object('transactions', 0, 'quantity', 0, 'spent', 0, 'refunded', 0, 'net_by_day_of_use', 0)
        ),
        'groups', coalesce(
          (
            select json_agg(json_build_object('group', t.name, 'totals', t.figures) order by t.spent desc, t.name)
            from total as t
            where not t.is_now and not t.is_all
          ),
          '[]'
        )
      ) end
    )
  into answer;
  return answer;
end
$$;

comment on function public.credit_usage(date, date, text, text, jsonb, boolean) is
'What the signed-in user spent, as of now, by days of their time zone (set_time_zone) from the day "from" on and '
'before the day "to"; the 30 days through today when left out. grain: hour, day, week (from Monday) or month; by: '
'operation, provider or model; filter: {NAME: value or list} of these; compare: also the same number of days, or of '
'whole months, before. One document: {from, to, grain, by, filter, zone, as_of, starts: of each bucket, totals and '
'series of {transactions, quantity, spent, refunded, net_by_day_of_use} in credits and units, groups: [{group, '
'totals, series}], before: {from, to, totals, groups: [{group, totals}]}}. refunded counts on the day of the refund, '
'net_by_day_of_use takes it from the day of the spend. Errors: PT400 more than 2 years, 7 days of hours, or what it '
'does not know; PT403 not signed in.';

grant execute on function public.credit_usage(date, date, text, text, jsonb, boolean) to authenticated;

-- sql/usage/entries_before.sql
create function credits.entries_before(account_id uuid, moment timestamptz) returns bigint
language plpgsql
stable
set search_path = ''
as $$
declare
  below bigint := 0::bigint;
  above bigint := (select a.last_entry from public.credit_accounts as a where a.id = entries_before.account_id);
  middle bigint;
begin
  -- The account's rows are numbered without a gap, in the order of their time.
  while below < above loop
    middle := (below + above + 1) / 2;
    if (
      select t.created_at < moment from public.credit_transactions as t
      where t.account_id = entries_before.account_id and t.id = middle
    ) then
      below := middle;
    else
      above := middle - 1;
    end if;
  end loop;
  return below;
end
$$;

comment on function credits.entries_before(uuid, timestamptz) is
'How many ledger rows of the account were written before the moment, which is the id of the last of them: by '
'halving, without an index on the time. A clock that was set back makes it as much too few or too many: leave a '
'margin, and look at each row.';

-- sql/usage/is_wanted.sql
create function credits.is_wanted(
  entry public.credit_transactions,
  kinds public.transaction_kind[],
  operations text[],
  zone text,
  first_day date,
  end_day date
) returns boolean
language sql
stable
as $$
  select
    (kinds is null or entry.kind = any(kinds))
    and (operations is null or entry.operation = any(operations))
    and (first_day is null or (entry.created_at at time zone zone)::date >= first_day)
    and (end_day is null or (entry.created_at at time zone zone)::date < end_day);
$$;

comment on function credits.is_wanted is
'Whether public.credit_history shows the ledger row; null arguments ask for nothing. Without a SET clause it is '
'planned as part of its caller.';

-- sql/usage/is_zone.sql
create function credits.is_zone(zone text) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- Postgres also takes abbreviations, offsets and rules such as Foo/Bar+3, which no browser knows, and files such as
  -- posix/Asia/Tokyo. What has a slash and no digits is a name or nothing.
  if
    char_length(zone) > 64
    or zone !~ '^([A-Za-z]+(/[A-Za-z_-]+){1,2}|UTC|Etc/GMT[+-]([0-9]|1[0-2]))$'
    or zone ~* '^(posix|right)/'
  then
    return false;
  end if;
  perform timestamptz '2000-01-01 00:00:00+00' at time zone zone;
  return zone is not null;
exception
  when invalid_parameter_value then
    return false;
end
$$;

comment on function credits.is_zone(text) is
'Whether it names a time zone that browsers know as well: an IANA name with a slash, or UTC. Not looked up in '
'pg_timezone_names, which reads a thousand files each time.';

-- sql/usage/log_usage.sql
create function credits.log_usage(
  account_id uuid,
  provider text,
  model text,
  operation text,
  units numeric,
  status text,
  latency_ms integer default null,
  provider_cost numeric default null,
  hold_id uuid default null,
  transaction_id bigint default null,
  tokens jsonb default null
) returns credits.usage_logs
language plpgsql
set search_path = ''
as $$
declare
  entry credits.usage_logs;
begin
  -- The number is drawn under the account's lock.
  perform from public.credit_accounts as a where a.id = log_usage.account_id for no key update;
  insert into credits.usage_logs (
    account_id, id, provider, model, operation, units, status, latency_ms, provider_cost, hold_id, transaction_id,
    tokens
  )
  values (
    log_usage.account_id,
    (select coalesce(max(u.id), 0) + 1 from credits.usage_logs as u where u.account_id = log_usage.account_id),
    log_usage.provider, log_usage.model, log_usage.operation, log_usage.units, log_usage.status,
    log_usage.latency_ms, log_usage.provider_cost, log_usage.hold_id, log_usage.transaction_id,
    log_usage.tokens
  )
  returning * into entry;
  return entry;
end
$$;

comment on function credits.log_usage is
'Writes one provider call to credits.usage_logs, under the account''s lock. For credits.close_generation, and the '
'operator''s own SQL.';

-- sql/usage/rebuild_usage.sql
create function credits.rebuild_usage(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  account public.credit_accounts;
begin
  account := credits.lock_account(rebuild_usage.account_id);
  delete from credits.usage_days as u where u.account_id = account.id;
  insert into credits.usage_days (
    account_id, day, price_version, transactions, quantity, spent, refunded, refunded_of
  )
  select account.id, u.*
  from credits.usage_of(account.id, credits.account_zone(account.id), 0, account.settled_through) as u;
end
$$;

comment on function credits.rebuild_usage(uuid) is
'Adds the account''s days up anew from its ledger, under its lock: after its time zone changed, or Postgres came to '
'know other rules of that zone, which verify_ledger tells.';

-- sql/usage/set_account_zone.sql
create function credits.set_account_zone(account_id uuid, zone text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if not credits.is_zone(zone) then
    perform credits.fail(
      'PT400', 'There is no such time zone.', jsonb_build_object('zone', left(zone, 100)),
      'Take a name from pg_timezone_names, such as Asia/Tokyo.'
    );
  end if;
  perform credits.lock_account(account_id);
  insert into credits.account_zones as z (account_id, zone, changed_on, changes)
  values (set_account_zone.account_id, set_account_zone.zone, (credits.now() at time zone 'UTC')::date, 0)
  on conflict on constraint account_zones_pkey do update set zone = excluded.zone;
  perform credits.rebuild_usage(account_id);
end
$$;

comment on function credits.set_account_zone(uuid, text) is
'Sets the time zone of an account and adds its usage up anew. For public.set_time_zone, and operators, who may for '
'accounts of any size. PT400 for an unknown zone.';

-- sql/usage/set_time_zone.sql
create function public.set_time_zone(zone text) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  account uuid := credits.account_of(credits.caller());
  today date := (credits.now() at time zone 'UTC')::date;
  -- What a user can have added up at once: a fraction of a second's work, while the account is locked.
  most constant bigint := 250000;
  allowed integer;
  kept record;
  entries bigint;
begin
  if not credits.is_zone(zone) then
    perform credits.fail(
      'PT400', 'There is no such time zone.', jsonb_build_object('zone', left(zone, 100)),
      'Send a name such as Asia/Tokyo, as Intl.DateTimeFormat().resolvedOptions().timeZone gives it, or UTC.'
    );
  elsif zone = credits.account_zone(account) then
    return jsonb_build_object('zone', zone, 'changed', false);
  end if;

  account := coalesce(account, credits.open_account(credits.caller()));
  -- Not credits.lock_account, which settles: what is refused below must cost little, however often it is asked for.
  select a.last_entry into entries from public.credit_accounts as a where a.id = account for no key update;
  if zone = credits.account_zone(account) then
    return jsonb_build_object('zone', zone, 'changed', false);
  end if;
  select s.max_time_zone_changes into allowed from credits.billing_settings as s;
  select z.changed_on, z.changes into kept from credits.account_zones as z where z.account_id = account;
  if entries > most then
    perform credits.fail(
      'PT409', format('An account with more than %s ledger rows does not change its time zone by itself.', most),
      jsonb_build_object('rows', entries, 'limit', most), 'Ask the app''s operator to set it.'
    );
  elsif allowed = 0 or (kept.changed_on >= today and kept.changes >= allowed) then
    perform credits.fail(
      'PT429', format('The time zone can be changed %s times a day.', allowed),
      jsonb_build_object(
        'limit', allowed,
        'retry_after', ceil(extract(epoch from (today + 1)::timestamp at time zone 'UTC' - credits.now()))
      ),
      'Wait until tomorrow.'
    );
  end if;
  perform credits.set_account_zone(account, zone);
  update credits.account_zones as z
  set changed_on = today, changes = case when kept.changed_on >= today then kept.changes else 0 end + 1
  where z.account_id = account;
  return jsonb_build_object('zone', zone, 'changed', true);
end
$$;

comment on function public.set_time_zone(text) is
'Sets the time zone in which the signed-in user''s days are counted, UTC to begin with: an IANA name such as '
'Asia/Tokyo. Their usage is added up anew. Returns {zone, changed}; the same zone again does nothing. Errors: PT400 '
'unknown zone, PT403 not signed in, PT409 more than 250,000 ledger rows, PT429 more than '
'billing_settings.max_time_zone_changes on one day (details: limit, retry_after).';

grant execute on function public.set_time_zone(text) to authenticated;

-- sql/usage/usage_by_day.sql
create function credits.usage_by_day(account_id uuid, end_day date, starts date[]) returns table (
  bucket integer,
  price_version bigint,
  transactions bigint,
  quantity bigint,
  spent bigint,
  refunded bigint,
  refunded_of bigint
)
language sql
stable
set search_path = ''
as $$
  select
    width_bucket(u.day, starts) as bucket,
    u.price_version,
    sum(u.transactions)::bigint,
    sum(u.quantity)::bigint,
    sum(u.spent)::bigint,
    sum(u.refunded)::bigint,
    sum(u.refunded_of)::bigint
  from credits.usage_as_of_now as u
  where u.account_id = usage_by_day.account_id and u.day >= starts[1] and u.day < end_day
  group by bucket, u.price_version;
$$;

comment on function credits.usage_by_day(uuid, date, date[]) is
'The account''s usage as of now by price and bucket: number n begins with the day starts[n], the last ends before '
'end_day.';

-- sql/usage/usage_by_hour.sql
create function credits.usage_by_hour(account_id uuid, end_at timestamptz, starts timestamptz[]) returns table (
  bucket integer,
  price_version bigint,
  transactions bigint,
  quantity bigint,
  spent bigint,
  refunded bigint,
  refunded_of bigint
)
language sql
stable
set search_path = ''
as $$
  with range as (
    -- An hour more at both ends: the server's clock may have been set.
    select
      credits.entries_before(usage_by_hour.account_id, starts[1] - interval '1 hour') as after_id,
      credits.entries_before(usage_by_hour.account_id, end_at + interval '1 hour') as through_id
  ),

  entry as materialized (
    select t.id, t.kind, t.amount, t.quantity, t.price_version, t.related_id, t.created_at
    from range as r
    cross join lateral (
      select e.* from public.credit_transactions as e
      where
        (e.account_id, e.id) > (usage_by_hour.account_id, r.after_id)
        and (e.account_id, e.id) <= (usage_by_hour.account_id, r.through_id)
      offset 0
    ) as t
    where t.created_at >= starts[1] and t.created_at < end_at
  ),

  part as (
    select
      e.created_at,
      e.price_version,
      1 as transactions,
      e.quantity,
      -e.amount as spent,
      0::bigint as refunded,
      0::bigint as refunded_of
    from entry as e
    where e.price_version is not null
    union all
    select e.created_at, s.price_version, 0, 0, 0::bigint, e.amount, 0::bigint
    from entry as e
    inner join public.credit_transactions as s on s.account_id = usage_by_hour.account_id and e.related_id = s.id
    where e.kind = 'refund' and s.price_version is not null
    union all
    select e.created_at, e.price_version, 0, 0, 0::bigint, 0::bigint, r.amount
    from range
    inner join public.credit_transactions as r
      on r.account_id = usage_by_hour.account_id and r.related_id > range.after_id and r.related_id <= range.through_id
    inner join entry as e on r.related_id = e.id
    where r.kind = 'refund' and e.price_version is not null
  )

  select
    width_bucket(p.created_at, starts) as bucket,
    p.price_version,
    sum(p.transactions)::bigint,
    sum(p.quantity)::bigint,
    sum(p.spent)::bigint,
    sum(p.refunded)::bigint,
    sum(p.refunded_of)::bigint
  from part as p
  group by bucket, p.price_version;
$$;

comment on function credits.usage_by_hour(uuid, timestamptz, timestamptz[]) is
'The same as credits.usage_by_day from the ledger itself: bucket n begins at starts[n], the last ends before end_at.';

-- sql/usage/usage_filter.sql
create function credits.usage_filter(filter jsonb) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  most constant integer := 50;
  moment timestamptz := credits.now();
  checked jsonb := jsonb_build_object();
  name text;
  wanted jsonb;
  unknown text;
begin
  if jsonb_typeof(coalesce(filter, '{}')) <> 'object' then
    perform credits.fail(
      'PT400', 'filter must be an object.', '{}', 'Such as {"operation": ["image_edit"], "provider": "openai"}.'
    );
  end if;
  for name, wanted in select f.key, f.value from jsonb_each(filter) as f (key, value) loop
    if name not in ('operation', 'provider', 'model') then
      perform credits.fail(
        'PT400', 'filter knows operation, provider and model only.', jsonb_build_object('filter', left(name, 100)),
        'Usage can be told apart by these.'
      );
    end if;
    wanted := case jsonb_typeof(wanted) when 'string' then jsonb_build_array(wanted) else wanted end;
    if
      jsonb_typeof(wanted) <> 'array' or jsonb_array_length(wanted) not between 1 and most
      or jsonb_path_exists(wanted, '$[*] ? (@.type() != "string")')
    then
      perform credits.fail(
        'PT400', format('filter.%s must be a name, or a list of 1 to %s names.', name, most),
        jsonb_build_object('filter', name, 'limit', most), 'Leave it out for all.'
      );
    end if;
    -- Of prices that were in force, which everybody could see: a name that is still to come is nobody's to guess.
    select min(w.value) into unknown
    from jsonb_array_elements_text(wanted) as w (value)
    where not exists (
      select from credits.pricing_tier_history as h
      where
        h.new ->> name = w.value and (h.new -> 'active')::boolean
        and (h.new ->> 'effective_from')::timestamptz <= moment
    );
    if unknown is not null then
      perform credits.fail(
        'PT400', format('There is no such %s.', name), jsonb_build_object(name, left(unknown, 100)),
        'The rows of pricing_tiers have the names that are on sale now.'
      );
    end if;
    checked := checked || jsonb_build_object(name, wanted);
  end loop;
  return checked;
end
$$;

comment on function credits.usage_filter(jsonb) is
'The filter of public.credit_usage with a list for each name. PT400: names it does not know, or that were never on '
'sale.';

-- sql/ledger/entries/actor.sql
create function credits.actor() returns text
language plpgsql
stable
set search_path = ''
as $$
declare
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  role text := auth.role();
begin
  return case when role in ('anon', 'authenticated', 'service_role') then role else 'operator' end;
end
$$;

comment on function credits.actor() is
'Who acts, as ledger rows say it: the API role, or operator for a direct session. Users read it, so it names no login; '
'see operator_entries.';

-- sql/ledger/entries/available.sql
create function credits.available(balance bigint, held bigint) returns bigint
language sql
immutable
as $$
  select greatest(0, balance - held);
$$;

comment on function credits.available(bigint, bigint) is
'credit_accounts.available of a balance and what is held of it, in credits. Spends and holds subtract from it instead, '
'where its type refuses to go below 0.';

-- sql/ledger/entries/check_cost.sql
create function credits.check_cost(source public.grant_source, cost_basis bigint, currency text) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if cost_basis not between 0 and 1000000000000000 then
    perform credits.fail(
      'PT400', 'cost_basis must be from 0 to a quadrillion, in minor units.', jsonb_build_object('cost_basis', cost_basis),
      'Leave it out where it is not known.'
    );
  elsif cost_basis > 0 and source in ('bonus', 'referral', 'promo') then
    perform credits.fail(
      'PT400', format('A %s was not paid for: its cost_basis is 0.', source),
      jsonb_build_object('source', source, 'cost_basis', cost_basis), 'Leave cost_basis out, or name another source.'
    );
  elsif currency !~* '^[a-z]{3}$' then
    perform credits.fail(
      'PT400', 'currency must be an ISO 4217 code.', jsonb_build_object('currency', left(currency, 100)),
      'Send three letters, such as usd.'
    );
  elsif coalesce(cost_basis, 0) > 0 and currency is null or cost_basis is null and currency is not null then
    perform credits.fail(
      'PT400', 'cost_basis and currency come together.',
      jsonb_build_object('cost_basis', cost_basis, 'currency', currency), 'Send both or neither.'
    );
  end if;
end
$$;

comment on function credits.check_cost(public.grant_source, bigint, text) is
'Refuses with PT400 what cannot be the cost_basis and currency of a lot from this source.';

-- sql/ledger/entries/claw_back.sql
create function credits.claw_back(
  account_id uuid,
  amount bigint,
  grant_transaction_id bigint default null,
  idempotency_key text default null,
  metadata jsonb default '{}',
  cause credits.clawback_cause default 'operator',
  purchase_id bigint default null,
  other_account_id uuid default null
) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  lot_id bigint;
  account public.credit_accounts;
  entry public.credit_transactions;
begin
  perform credits.check_metadata(metadata);
  -- Not billing_settings.max_grant: what was granted can be taken back, also after the limit was lowered.
  if amount is null or amount not between 1 and 1000000000000 then
    perform credits.fail(
      'PT400', 'amount must be a whole number of credits from 1 to a trillion.', jsonb_build_object('amount', amount),
      'No grant is larger.'
    );
  end if;
  entry := credits.replayed_entry(account_id, idempotency_key);
  if entry.id is not null then
    perform credits.check_repeat(
      idempotency_key,
      entry.kind = 'clawback' and entry.amount = -claw_back.amount
      and entry.related_id is not distinct from grant_transaction_id and entry.metadata = claw_back.metadata
      and exists (
        select from credits.clawbacks as c
        where
          c.account_id = entry.account_id and c.transaction_id = entry.id and c.cause = claw_back.cause
          and c.purchase_id is not distinct from claw_back.purchase_id
          and c.other_account_id is not distinct from claw_back.other_account_id
      )
    );
    return entry;
  end if;

  account := credits.lock_account(account_id);
  if account.id is null then
    perform credits.fail(
      'PT404', 'There is no such account.', jsonb_build_object('account_id', account_id), 'Check the account id.'
    );
  end if;
  if grant_transaction_id is not null then
    select g.id into lot_id from credits.credit_grants as g
    inner join public.credit_transactions as t on g.account_id = t.account_id and g.transaction_id = t.id
    where t.account_id = claw_back.account_id and t.id = grant_transaction_id and t.kind = 'grant';
    if not found then
      perform credits.fail(
        'PT404', 'The account has no such grant.', jsonb_build_object('transaction_id', grant_transaction_id),
        'Name the ledger row of a grant to this account.'
      );
    end if;
  end if;

  entry := credits.post_entry(
    account_id, 'clawback', -amount,
    related_id => grant_transaction_id,
    idempotency_key => idempotency_key,
    metadata => metadata
  );
  insert into credits.clawbacks (account_id, transaction_id, cause, purchase_id, other_account_id)
  values (entry.account_id, entry.id, claw_back.cause, claw_back.purchase_id, claw_back.other_account_id);
  perform credits.settle_account(account_id, usable_from => '-infinity', preferred_lot => lot_id);
  perform credits.pass_debt(account_id);
  return entry;
end
$$;

comment on function credits.claw_back is
'Internal: takes back amount credits from an account, because their payment was refunded or disputed, a plan was '
'changed for a smaller one, or a debt passes between it and its successor; returns the ledger row. cause and what it '
'names are noted in credits.clawbacks. Takes from the named grant''s lot first, then from the others in burn order, '
'then below zero: the next grant pays that off. The debt of a deleted user''s account goes to its successor. Errors: '
'PT400, PT404, PT409 as elsewhere.';

-- sql/ledger/entries/entry_moment.sql
create function credits.entry_moment(next_expiry timestamptz) returns timestamptz
language sql
volatile
as $$
  select least(credits.now(), next_expiry - interval '1 microsecond');
$$;

comment on function credits.entry_moment(timestamptz) is
'The moment of a change of an account with this next_expiry, which was found not to be due just before: the clock may '
'have passed it since, and a lot that had expired by then must not have been alive for it. Without a SET clause it is '
'planned as part of its caller.';

-- sql/ledger/entries/give_back.sql
create function credits.give_back(account_id uuid, clawback_id bigint, amount bigint, metadata jsonb default '{}')
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  taken public.credit_transactions;
  left_to_give bigint;
  entry public.credit_transactions;
begin
  select * into taken from public.credit_transactions as t
  where t.account_id = give_back.account_id and t.id = clawback_id and t.kind = 'clawback';
  perform credits.lock_account(account_id);
  left_to_give := credits.left_to_refund(taken);
  if not coalesce(amount between 1 and left_to_give, false) then
    perform credits.fail(
      'PT400', format('amount must be from 1 to the %s credits that are left to give back.', left_to_give),
      jsonb_build_object('account_id', account_id, 'transaction_id', clawback_id, 'amount', amount),
      'Name a clawback of the account.'
    );
  end if;
  entry := credits.post_entry(account_id, 'refund', amount, related_id => taken.id, metadata => metadata);
  perform credits.return_to_lots(entry);
  return entry;
end
$$;

comment on function credits.give_back(uuid, bigint, bigint, jsonb) is
'Internal: undoes amount credits of a clawback, because its refund failed, its dispute was won, or a refund comes '
'before a downgrade; returns the ledger row, a refund. They go back to the lots they came from, as those of any '
'refund. PT400 beyond what is left of it.';

-- sql/ledger/entries/grant_to_account.sql
create function credits.grant_to_account(
  account_id uuid,
  amount bigint,
  source public.grant_source,
  expires_at timestamptz,
  priority integer,
  idempotency_key text,
  metadata jsonb,
  cost_basis bigint default null,
  currency text default null
) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  most bigint;
  account public.credit_accounts;
  entry public.credit_transactions;
begin
  perform credits.check_metadata(metadata);
  select s.max_grant into most from credits.billing_settings as s;
  if amount is null or amount not between 1 and most then
    perform credits.fail(
      'PT400', format('amount must be a whole number of credits from 1 to %s.', most),
      jsonb_build_object('amount', amount, 'limit', most), 'The limit is billing_settings.max_grant.'
    );
  elsif priority not between 0 and 100 then
    perform credits.fail(
      'PT400', 'priority must be from 0 (burns first) to 100.', jsonb_build_object('priority', priority),
      'Leave it out for 50.'
    );
  end if;

  perform credits.check_cost(source, cost_basis, currency);

  account := credits.lock_account(account_id);
  if account.balance + amount > 1000000000000000 then
    perform credits.fail(
      'PT400', 'The balance would exceed a quadrillion credits.',
      jsonb_build_object('balance', account.balance, 'amount', amount), 'Grant less.'
    );
  end if;
  entry := credits.post_entry(
    account_id, 'grant', amount,
    idempotency_key => idempotency_key,
    metadata => metadata
  );
  -- Only now is the moment of the grant known: it may have waited for the account's lock.
  if not coalesce(isfinite(expires_at) and expires_at > entry.created_at, true) then
    perform credits.fail(
      'PT400', 'expires_at must be in the future.', jsonb_build_object('expires_at', expires_at),
      'Leave it out for credits that never expire.'
    );
  end if;
  perform credits.add_lot(
    entry, amount, source, expires_at, priority,
    cost_basis => coalesce(cost_basis, case when source in ('bonus', 'referral', 'promo') then 0 end),
    currency => lower(currency)
  );
  -- Not as a condition of the UPDATE: for that each grant would be planned anew.
  if expires_at is not null then
    update public.credit_accounts as a set next_expiry = least(a.next_expiry, grant_to_account.expires_at)
    where a.id = grant_to_account.account_id;
  end if;
  perform credits.pay_debt_from_new_credits(account_id);
  return entry;
end
$$;

comment on function credits.grant_to_account is
'Grants credits to an account as one lot; returns the ledger row. The one way credits come in: grant_credits, the '
'sign-up bonus and payments end here. cost_basis, currency: see credit_grants; given credits have 0. Locks and settles '
'the account. Errors: PT400.';

-- sql/ledger/entries/left_to_refund.sql
create function credits.left_to_refund(debit public.credit_transactions) returns bigint
language sql
stable
set search_path = ''
as $$
  select -debit.amount - coalesce(sum(t.amount), 0)::bigint
  from public.credit_transactions as t
  where t.account_id = debit.account_id and t.related_id = debit.id and t.kind = 'refund';
$$;

comment on function credits.left_to_refund(public.credit_transactions) is
'What of a spend, capture or clawback has not been given back yet. Stays true under the account''s lock.';

-- sql/ledger/entries/lock_account.sql
create function credits.lock_account(account_id uuid) returns public.credit_accounts
language plpgsql
set search_path = ''
as $$
declare
  account public.credit_accounts;
begin
  select * into account from public.credit_accounts as a where a.id = lock_account.account_id for no key update;
  -- Nothing pending, due or owed: settled already, perhaps by this very transaction.
  if
    account.unsettled_since is not null
    or account.debt_from is not null
    or credits.is_due(account.next_expiry, account.lapsed)
  then
    perform credits.settle_account(account_id);
    select * into account from public.credit_accounts as a where a.id = lock_account.account_id;
  end if;
  return account;
end
$$;

comment on function credits.lock_account(uuid) is
'Takes the account''s row lock until the transaction ends and settles the account. Everything that changes lots, and '
'every refusal of a spend, starts here.';

-- sql/ledger/entries/make_spendable.sql
create function credits.make_spendable(account_id uuid, required bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  account public.credit_accounts;
  worth record;
begin
  -- What comes with the user's first confirmed address, if it has not come yet.
  perform credits.open_account(a.user_id) from public.credit_accounts as a where a.id = make_spendable.account_id;
  select a.* into account
  from public.credit_accounts as a
  where a.id = make_spendable.account_id
  for no key update;
  -- Asked, not settled: who is refused must not have a settlement done for each call, and undone again.
  worth := credits.account_position(account);
  if account.frozen_at is not null then
    perform credits.fail(
      'PT403', 'The account is frozen.', jsonb_build_object('frozen_at', account.frozen_at), 'Ask the app''s support.'
    );
  elsif worth.available < required then
    perform credits.fail(
      'PT402', 'Not enough credits.',
      jsonb_build_object(
        'required', required,
        'available', worth.available,
        'shortfall', required - worth.available
      ),
      'Buy credits, or ask for less.'
    );
  elsif credits.is_due(account.next_expiry) then
    perform credits.lock_account(account.id);
  elsif account.last_entry - account.settled_through >= credits.max_unsettled() then
    perform credits.settle_account(account.id, batches => 1);
  end if;
end
$$;

comment on function credits.make_spendable(uuid, bigint) is
'What a spend or a hold calls when its UPDATE matched nothing: either settles what is due and returns, with the '
'account locked, for another try, or says why not: PT402 (details: required, available, shortfall, in credits) or '
'PT403.';

-- sql/ledger/entries/note_operator.sql
create function credits.note_operator(entry public.credit_transactions) returns void
language plpgsql
set search_path = ''
as $$
begin
  if entry.actor = 'operator' then
    insert into credits.operator_entries (account_id, transaction_id) values (entry.account_id, entry.id);
  end if;
end
$$;

comment on function credits.note_operator(public.credit_transactions) is
'Keeps the login of a direct session that wrote the ledger row, where users cannot read it.';

-- sql/ledger/entries/pay_debt_from_new_credits.sql
create function credits.pay_debt_from_new_credits(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select from public.credit_accounts as a
    where a.id = pay_debt_from_new_credits.account_id and a.debt_from is not null
  ) then
    perform credits.settle_account(account_id);
  end if;
end
$$;

comment on function credits.pay_debt_from_new_credits(uuid) is
'Pays from new credits what a clawback had left unpaid. The caller holds the account''s lock.';

-- sql/ledger/entries/post_entry.sql
create function credits.post_entry(
  account_id uuid,
  kind public.transaction_kind,
  amount bigint,
  related_id bigint default null,
  operation text default null,
  idempotency_key text default null,
  metadata jsonb default '{}',
  actor text default credits.actor(),
  moment timestamptz default null
) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  account public.credit_accounts;
  entry public.credit_transactions;
begin
  update public.credit_accounts as a
  set
    balance = a.balance + post_entry.amount,
    lifetime_granted = a.lifetime_granted + case when post_entry.kind = 'grant' then post_entry.amount else 0 end,
    lifetime_refunded = a.lifetime_refunded + case when post_entry.kind = 'refund' then post_entry.amount else 0 end,
    lifetime_expired = a.lifetime_expired - case when post_entry.kind = 'expiry' then post_entry.amount else 0 end,
    lifetime_clawed_back = a.lifetime_clawed_back - case when post_entry.kind = 'clawback' then post_entry.amount else 0 end,
    available = credits.available(a.balance + post_entry.amount, a.held),
    last_entry = a.last_entry + 1,
    unsettled_since = coalesce(a.unsettled_since, credits.now()),
    -- The account was settled before, so nothing has expired yet that this row could see as alive.
    updated_at = coalesce(post_entry.moment, credits.entry_moment(a.next_expiry))
  where a.id = post_entry.account_id
  returning a.* into account;

  insert into public.credit_transactions (
    account_id, id, kind, amount, balance_after, operation, related_id, actor, idempotency_key, metadata,
    created_at
  )
  values (
    account.id, account.last_entry, post_entry.kind, post_entry.amount, account.balance, post_entry.operation,
    post_entry.related_id, post_entry.actor, post_entry.idempotency_key, post_entry.metadata,
    account.updated_at
  )
  returning * into entry;
  perform credits.note_operator(entry);
  return entry;
end
$$;

comment on function credits.post_entry is
'Changes a balance and writes the ledger row that says so, for a grant, refund, clawback or expiry. Checks nothing but '
'the constraints. The caller holds the account''s lock. consume_credits and capture_hold write their own rows, in one '
'UPDATE with their conditions. moment: when it happened, for an expiry.';

-- sql/ledger/entries/return_to_lots.sql
create function credits.return_to_lots(entry public.credit_transactions) returns void
language plpgsql
set search_path = ''
as $$
declare
  still_to_return bigint := entry.amount;
  grace timestamptz;
  lot record;
  part bigint;
  returned bigint;
begin
  select entry.created_at + s.refund_grace into grace from credits.billing_settings as s;

  -- What was paid last is given back first, as if less had been spent. So it does not matter into how many refunds an
  -- amount is split: which part of the transaction it undoes depends on how much was refunded before, and on nothing else.
  for lot in
    with refunds as (
      select t.id from public.credit_transactions as t
      where t.account_id = entry.account_id and t.related_id = entry.related_id and t.kind = 'refund'
    ),

    paid as (
      select
        x.grant_id,
        max(x.number) as last_paid,
        sum(x.amount) as amount
      from credits.credit_allocations as x
      where x.account_id = entry.account_id and x.transaction_id = entry.related_id
      group by x.grant_id
    )

    -- What no lot has paid for yet, its own debt, goes before any of them.
    select
      null as id,
      null as expires_at,
      null as priority,
      0 as cost_basis,
      null as currency,
      null as size,
      -spent.amount - coalesce((select sum(p.amount) from paid as p), 0) as left_to_return,
      null as last_paid
    from public.credit_transactions as spent
    where spent.account_id = entry.account_id and spent.id = entry.related_id
    union all
    select
      g.id,
      g.expires_at,
      g.priority,
      g.cost_basis,
      g.currency,
      g.amount,
      p.amount
      + coalesce((
        select -sum(r.amount) from credits.lot_returns as r
        where
          r.account_id = entry.account_id and r.grant_id = g.id and r.transaction_id in (select refunds.id from refunds)
      ), 0)
      - coalesce((
        select sum(n.amount) from credits.credit_grants as n
        where
          n.account_id = entry.account_id and n.returned_from = g.id
          and n.transaction_id in (select refunds.id from refunds)
      ), 0),
      p.last_paid
    from paid as p
    inner join credits.credit_grants as g on g.account_id = entry.account_id and p.grant_id = g.id
    -- What paid off its own debt in an earlier refund came from no lot.
    where g.returned_from is not null or g.transaction_id not in (select refunds.id from refunds)
    order by last_paid desc nulls first
  loop
    part := least(still_to_return, lot.left_to_return);
    continue when part <= 0;
    still_to_return := still_to_return - part;
    if lot.id is null then
      -- Not an older debt, and not from other lots: the debt that this transaction made is taken back.
      perform credits.add_lot(entry, part, 'refund', grace, null, cost_basis => 0);
      with paying as (
        update credits.credit_grants as g set remaining = 0
        where
          g.account_id = entry.account_id
          and g.id = (select max(n.id) from credits.credit_grants as n where n.account_id = entry.account_id)
        returning g.id
      )

      insert into credits.lot_payments (
        account_id, grant_id, first_id, last_id, first_amount, last_amount, number, is_late
      )
      select
        entry.account_id, paying.id, entry.related_id, entry.related_id, part, part,
        (select coalesce(max(p.number), 0) + 1 from credits.lot_payments as p where p.account_id = entry.account_id), true
      from paying;
    elsif lot.expires_at <= entry.created_at then
      -- The share of what was paid for the lot, so that all parts together have no more and no less than all of it.
      select coalesce(sum(n.amount), 0) into returned
      from credits.credit_grants as n
      where n.account_id = entry.account_id and n.returned_from = lot.id;
      perform credits.add_lot(
        entry, part, 'refund', grace, lot.priority, lot.id,
        (
          div(lot.cost_basis::numeric * (returned + part), lot.size) - div(lot.cost_basis::numeric * returned, lot.size)
        )::bigint,
        lot.currency
      );
    else
      insert into credits.lot_returns (account_id, transaction_id, grant_id, amount)
      values (entry.account_id, entry.id, lot.id, part);
      update credits.credit_grants as g set remaining = g.remaining + part
      where g.account_id = entry.account_id and g.id = lot.id;
    end if;
    -- At once, with what has just come back, not with what another part of the refund fills next.
    perform credits.pay_debt_from_new_credits(entry.account_id);
  end loop;

  update public.credit_accounts as a set next_expiry = credits.next_expiry(a.id, entry.created_at)
  where a.id = entry.account_id;
  perform credits.return_debt(entry.account_id);
end
$$;

comment on function credits.return_to_lots(public.credit_transactions) is
'Puts the credits of a refund back where its transaction had them from, what was paid last first: takes back what of '
'it is still a debt, then fills the lots that paid for it; those that have expired since, as new lots that live for '
'billing_settings.refund_grace. What comes back pays the account''s other debts first. Several refunds end as one of '
'the same sum does. A deleted user''s account passes them on as far as its successor took over its debt. The caller '
'holds the account''s lock and has settled it.';

-- sql/ledger/erasure/erase_hold_texts.sql
create function credits.erase_hold_texts(account_id uuid, transaction_id bigint default null) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  erased bigint;
begin
  with requests as (
    update public.generation_jobs as j set request = null
    from public.credit_holds as h
    where
      j.account_id = erase_hold_texts.account_id
      and j.request is not null
      and j.finished_at is not null
      and h.account_id = j.account_id
      and h.id = j.hold_id
      and (erase_hold_texts.transaction_id is null or h.transaction_id = erase_hold_texts.transaction_id)
    returning j.hold_id
  )

  update public.credit_holds as h
  set idempotency_key = null, request_hash = null, metadata = '{}', release_reason = null
  where
    h.account_id = erase_hold_texts.account_id
    and (erase_hold_texts.transaction_id is null or h.transaction_id = erase_hold_texts.transaction_id)
    and h.status <> 'held'
    and (
      h.idempotency_key is not null
      or h.metadata <> '{}'
      or h.release_reason is not null
      or h.id in (select r.hold_id from requests as r)
    )
    and not exists (
      select from public.generation_jobs as j
      where j.account_id = h.account_id and j.hold_id = h.id and j.finished_at is null
    );
  get diagnostics erased = row_count;
  return erased;
end
$$;

comment on function credits.erase_hold_texts(uuid, bigint) is
'Erases what callers wrote in the account''s holds that have ended, and the digests of the requests of their '
'generations: in all, or in the hold of one capture. Returns in how many. The caller holds the account''s lock.';

-- sql/ledger/erasure/erase_texts.sql
create function credits.erase_texts(account_id uuid, transaction_id bigint default null) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  erased bigint[];
begin
  -- All rows are sealed then.
  perform credits.lock_account(account_id);
  select array_agg(t.id) into erased
  from public.credit_transactions as t
  where
    t.account_id = erase_texts.account_id
    and (erase_texts.transaction_id is null or t.id = erase_texts.transaction_id)
    and credits.is_callers_text(t);
  if erased is null then
    return 0;
  end if;

  with text as (
    select
      t.account_id,
      t.id,
      t.id = any(erased) as is_erased,
      bool_or(t.id = any(erased)) over (partition by s.number) as is_touched,
      coalesce(x.salt, credits.text_salt(s.salt, t.id)) as salt,
      t as entry
    from credits.ledger_seals as s
    inner join public.credit_transactions as t
      on s.account_id = t.account_id and t.id > s.through_id - s.entries and t.id <= s.through_id
    left join credits.sealed_texts as x on t.account_id = x.account_id and t.id = x.transaction_id
    where
      s.account_id = erase_texts.account_id
      and (
        erase_texts.transaction_id is null
        or erase_texts.transaction_id between s.through_id - s.entries + 1 and s.through_id
      )
      and credits.has_text(t)
  )

  insert into credits.sealed_texts as x (account_id, transaction_id, salt, digest, erased_at, erased_by)
  select
    t.account_id,
    t.id,
    case when not t.is_erased then t.salt end,
    case when t.is_erased then credits.text_digest(t.entry, t.salt) end,
    case when t.is_erased then credits.now() end,
    case when t.is_erased then session_user end
  from text as t
  where t.is_touched and (t.is_erased or t.salt is not null)
  on conflict on constraint sealed_texts_pkey do update set
    salt = null, digest = excluded.digest, erased_at = excluded.erased_at, erased_by = excluded.erased_by
  where excluded.digest is not null;

  update credits.ledger_seals as s set salt = null
  where
    s.account_id = erase_texts.account_id
    and s.salt is not null
    and exists (
      select from unnest(erased) as t (id) where t.id > s.through_id - s.entries and t.id <= s.through_id
    );
  update public.credit_transactions as t set idempotency_key = null, metadata = '{}'
  where t.account_id = erase_texts.account_id and t.id = any(erased);
  return cardinality(erased);
end
$$;

comment on function credits.erase_texts(uuid, bigint) is
'Erases what callers wrote in one ledger row of the account, or in all: keys and metadata, and the salts by which they '
'could be guessed from their seals. The seals stay whole; a key may be used again afterwards, for a new request. '
'Returns in how many rows. Locks and settles the account. Those of holds: credits.erase_hold_texts.';

-- sql/ledger/erasure/is_callers_text.sql
create function credits.is_callers_text(entry public.credit_transactions) returns boolean
language sql
stable
as $$
  select
    credits.has_text(entry)
    and not coalesce(starts_with(entry.idempotency_key, 'sys:'), false)
    and case
      when entry.kind = 'clawback' or entry.kind = 'refund' and entry.operation is null then exists (
        select from credits.clawbacks as c
        where
          c.account_id = entry.account_id
          and c.transaction_id = case when entry.kind = 'clawback' then entry.id else entry.related_id end
          and c.cause = 'operator'
      )
      else entry.kind <> 'expiry'
    end;
$$;

comment on function credits.is_callers_text(public.credit_transactions) is
'Whether a ledger row has a key or metadata that a caller wrote: what credits.erase_texts erases. What the ledger '
'itself writes names nobody, and it reads it again: keys by which a bonus or a payment comes once, and what its '
'clawbacks and their ends say.';

-- sql/ledger/holds/capture.sql
create function credits.capture(
  hold public.credit_holds,
  quantity integer,
  metadata jsonb
) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  cost bigint := ceil(hold.unit_price * quantity);
  account public.credit_accounts;
  entry public.credit_transactions;
begin
  update public.credit_accounts as a
  set
    balance = a.balance - cost,
    held = a.held - hold.amount,
    lifetime_spent = a.lifetime_spent + cost,
    available = credits.available(a.balance - cost, a.held - hold.amount),
    last_entry = a.last_entry + 1,
    unsettled_since = coalesce(a.unsettled_since, credits.now()),
    -- credits.lock_hold has found the moment to be before the next expiry.
    updated_at = credits.entry_moment(a.next_expiry)
  where a.id = hold.account_id
  returning a.* into account;

  insert into public.credit_transactions (
    account_id, id, kind, amount, balance_after, operation, quantity, unit_price, price_version, hold_id, actor,
    metadata, created_at
  )
  values (
    account.id, account.last_entry, 'capture', -cost, account.balance, hold.operation, capture.quantity,
    hold.unit_price, hold.price_version, hold.id, credits.actor(), capture.metadata, account.updated_at
  )
  returning * into entry;
  perform credits.note_operator(entry);

  update public.credit_holds as h
  set status = 'captured', transaction_id = entry.id, closed_at = account.updated_at
  where h.account_id = hold.account_id and h.id = hold.id;

  -- Credits that had expired under holds: this hold's go first, and what no hold covers any more is written off.
  if account.lapsed > 0 then
    perform credits.settle_account(hold.account_id, usable_from => hold.created_at);
  elsif account.last_entry - account.settled_through >= credits.max_unsettled() then
    perform credits.settle_account(hold.account_id, batches => 1);
  end if;
  return entry;
end
$$;

comment on function credits.capture(public.credit_holds, integer, jsonb) is
'Charges quantity units of an open hold at its pinned price and frees the rest; returns the ledger row. The caller has '
'the hold from credits.lock_hold, and checked that it is held and has that many units.';

-- sql/ledger/holds/hold_at_price.sql
create function credits.hold_at_price(
  account_id uuid,
  operation text,
  quantity integer,
  unit_price numeric,
  price_version bigint,
  amount bigint,
  lifetime interval,
  idempotency_key text,
  hash bytea,
  metadata jsonb,
  is_limited boolean
) returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  account record;
  refusal jsonb;
  hold public.credit_holds;
begin
  loop
    update public.credit_accounts as a
    set
      held = a.held + amount,
      available = a.available - amount,
      next_expiry = least(a.next_expiry, credits.now() + lifetime),
      has_keyed_holds = a.has_keyed_holds or hold_at_price.idempotency_key is not null,
      updated_at = credits.entry_moment(a.next_expiry)
    where
      a.id = hold_at_price.account_id
      and a.available >= amount
      and a.frozen_at is null
      and not credits.is_due(a.next_expiry)
      and (hold_at_price.idempotency_key is null or credits.key_is_new(a.id, hold_at_price.idempotency_key))
      and (not is_limited or credits.hold_refusal(a.id) is null)
    returning a.id, a.updated_at, a.next_expiry, a.updated_at + lifetime as expires_at into account;
    exit when found;

    hold := credits.replayed_hold(account_id, idempotency_key, hash);
    if hold.id is not null then
      return hold;
    elsif amount is null then
      return null;
    end if;
    perform credits.make_spendable(account_id, amount);
    -- With the lock, which make_spendable took.
    refusal := case when is_limited then credits.hold_refusal(account_id) end;
    if refusal is not null then
      perform credits.fail('PT429', refusal ->> 'message', refusal - 'message', 'Wait, or let open holds end.');
    end if;
  end loop;

  insert into public.credit_holds (
    account_id, operation, quantity, unit_price, price_version, amount, expires_at, idempotency_key, request_hash,
    metadata, created_at
  )
  values (
    account.id, hold_at_price.operation, hold_at_price.quantity, hold_at_price.unit_price,
    hold_at_price.price_version, amount, account.expires_at, hold_at_price.idempotency_key, hash,
    hold_at_price.metadata, account.updated_at
  )
  returning * into hold;

  -- The clock may have moved on between the two columns that the UPDATE set from it.
  if account.next_expiry > hold.expires_at then
    update public.credit_accounts as a set next_expiry = hold.expires_at where a.id = account.id;
  end if;
  perform credits.prune_unused_holds(account.id, (select s.max_unused_holds from credits.billing_settings as s));
  return hold;
end
$$;

comment on function credits.hold_at_price is
'Reserves amount credits of the account, ceil(unit_price * quantity), in a hold that pins unit_price; returns the '
'hold, or the one that the same key and hash made before. Null for a new request without an amount: then the caller '
'says what is wrong with it. The one place that makes holds; what they cost is for the caller to know, never for a '
'client to say. is_limited: whether billing_settings.max_holds_per_minute and max_open_holds apply; generations have '
'limits of their own. Errors: PT402, PT403, PT409, PT429.';

-- sql/ledger/holds/hold_refusal.sql
create function credits.hold_refusal(account_id uuid) returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  settings record;
  made record;
begin
  select s.max_holds_per_minute, s.max_open_holds into settings from credits.billing_settings as s;

  -- Generations have limits of their own.
  select count(*) as holds, min(n.created_at) as oldest into made
  from (
    select h.created_at
    from public.credit_holds as h
    where
      h.account_id = hold_refusal.account_id
      and h.created_at > moment - interval '1 minute'
      and not exists (select from public.generation_jobs as j where j.account_id = h.account_id and j.hold_id = h.id)
    order by h.created_at desc
    limit settings.max_holds_per_minute
  ) as n;
  if made.holds >= settings.max_holds_per_minute then
    return jsonb_build_object(
      'message', 'Too many holds in this minute.',
      'limit', settings.max_holds_per_minute,
      'retry_after', ceil(extract(epoch from coalesce(made.oldest, moment) + interval '1 minute' - moment))
    );
  end if;

  select count(*) as holds, min(n.expires_at) as first_end into made
  from (
    select h.expires_at
    from public.credit_holds as h
    where
      h.account_id = hold_refusal.account_id
      and h.status = 'held'
      and h.expires_at > moment
      and not exists (select from public.generation_jobs as j where j.account_id = h.account_id and j.hold_id = h.id)
    limit settings.max_open_holds
  ) as n;
  if made.holds >= settings.max_open_holds then
    return jsonb_build_object(
      'message', 'Too many holds are open.',
      'limit', settings.max_open_holds,
      'retry_after', ceil(extract(epoch from coalesce(made.first_end, moment + interval '1 minute') - moment))
    );
  end if;
  return null;
end
$$;

comment on function credits.hold_refusal(uuid) is
'Why the account may not make another hold now, by billing_settings.max_holds_per_minute and max_open_holds: '
'{message, limit, retry_after in seconds}; null when it may. Counts rows, writes none. For the WHERE of the UPDATE '
'that takes the account''s lock: every hold changes the account''s row, so where the UPDATE had to wait, Postgres '
'asks again once it has the lock, and being volatile the function then sees what the other session has committed.';

-- sql/ledger/holds/lock_hold.sql
create function credits.lock_hold(account_id uuid, hold_id uuid) returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  hold public.credit_holds;
  due boolean;
begin
  -- The account first, then its holds: the order in which everything here locks.
  select credits.is_due(a.next_expiry, a.lapsed) into due
  from public.credit_accounts as a
  inner join public.credit_holds as h on a.id = h.account_id
  where a.id = lock_hold.account_id and h.id = lock_hold.hold_id
  for no key update of a;
  if due then
    perform credits.lock_account(account_id);
  end if;
  select * into hold from public.credit_holds as h
  where h.account_id = lock_hold.account_id and h.id = lock_hold.hold_id;
  if not found then
    perform credits.fail(
      'PT404', 'The account has no such hold.', jsonb_build_object('account_id', account_id, 'hold_id', hold_id),
      'Check both ids.'
    );
  end if;
  return hold;
end
$$;

comment on function credits.lock_hold(uuid, uuid) is
'The hold as it is now, with its account locked until the transaction ends and settled if anything was due. PT404.';

-- sql/ledger/holds/prune_unused_holds.sql
create function credits.prune_unused_holds(account_id uuid, most integer) returns void
language plpgsql
set search_path = ''
as $$
declare
  old uuid[];
begin
  -- Not FOR UPDATE: that would also lock, and so write, each of those that OFFSET keeps.
  select array_agg(o.id) into old
  from (
    select h.id
    from public.credit_holds as h
    where
      h.account_id = prune_unused_holds.account_id
      and h.status in ('released', 'expired')
      -- Those of this minute count against its limit.
      and h.closed_at <= credits.now() - interval '1 minute'
      -- A generation that asked a provider was not for nothing.
      and not exists (
        select from public.generation_jobs as j
        where
          j.account_id = h.account_id and j.hold_id = h.id
          and (j.finished_at is null or j.dispatched_at is not null)
      )
    order by h.closed_at desc
    limit 10 offset prune_unused_holds.most
  ) as o;
  if old is not null then
    delete from public.generation_jobs as j
    where j.account_id = prune_unused_holds.account_id and j.hold_id = any(old);
    delete from public.credit_holds as h where h.account_id = prune_unused_holds.account_id and h.id = any(old);
  end if;
end
$$;

comment on function credits.prune_unused_holds(uuid, integer) is
'Deletes some of the account''s holds that ended without a capture or a provider''s call, beyond the newest so many: '
'who makes holds in order to fill the database gets no further than that. The caller holds the account''s lock.';

-- sql/ledger/holds/release.sql
create function credits.release(hold public.credit_holds, reason text) returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  lapsed bigint;
begin
  update public.credit_accounts as a
  set
    held = a.held - hold.amount,
    available = credits.available(a.balance, a.held - hold.amount),
    updated_at = credits.now()
  where a.id = hold.account_id
  returning a.lapsed into lapsed;

  update public.credit_holds as h
  set status = 'released', release_reason = reason, closed_at = credits.now()
  where h.account_id = hold.account_id and h.id = hold.id
  returning h.* into hold;

  if lapsed > 0 then
    perform credits.settle_account(hold.account_id);
  end if;
  return hold;
end
$$;

comment on function credits.release(public.credit_holds, text) is
'Gives back everything that an open hold reserved; returns the hold. The caller has it from credits.lock_hold, and '
'checked that it is held.';

-- sql/ledger/holds/sweep_holds.sql
create function credits.sweep_holds(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  before timestamptz := credits.now() - (select s.hold_retention from credits.billing_settings as s);
  accounts uuid[];
  old uuid[];
begin
  -- With the account's lock nobody finds the hold by its key meanwhile and opens a job on it.
  select array_agg(o.account_id), array_agg(o.id) into accounts, old
  from (
    select h.account_id, h.id
    from public.credit_holds as h
    inner join public.credit_accounts as a on h.account_id = a.id
    where
      h.status in ('released', 'expired')
      and h.closed_at <= before
      and not exists (select from public.generation_jobs as j where j.account_id = h.account_id and j.hold_id = h.id and j.finished_at is null)
    order by h.closed_at
    limit batch
    for update of h skip locked
    for no key update of a skip locked
  ) as o;
  delete from public.generation_jobs as j using unnest(accounts, old) as o (account_id, hold_id)
  where j.account_id = o.account_id and j.hold_id = o.hold_id;
  delete from public.credit_holds as h using unnest(accounts, old) as o (account_id, hold_id)
  where h.account_id = o.account_id and h.id = o.hold_id;
  return coalesce(cardinality(old), 0);
end
$$;

comment on function credits.sweep_holds(integer) is
'Deletes up to batch holds that ended without a capture billing_settings.hold_retention ago, with the '
'generations that they were made for; returns how many. Their provider calls stay in credits.usage_logs. Captured '
'holds stay for ever.';

-- sql/ledger/idempotency/check_key.sql
create function credits.check_key(idempotency_key text) returns text
language sql
stable
as $$
  select case
    when starts_with(idempotency_key, 'sys:') or char_length(idempotency_key) not between 1 and 255
    then credits.refuse_key(idempotency_key)
    else idempotency_key
  end;
$$;

comment on function credits.check_key(text) is
'The idempotency key, if a caller may use it; null for none. PT400 by its length, or because it is of the kind that '
'the ledger itself uses, so that no caller can take the key of a bonus or a payment beforehand. Every spend asks: '
'without a SET clause it is planned as part of its caller.';

-- sql/ledger/idempotency/check_repeat.sql
create function credits.check_repeat(idempotency_key text, is_same boolean) returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if is_same is not true then
    perform credits.fail(
      'PT409', 'This idempotency_key was used for another request.',
      jsonb_build_object('idempotency_key', idempotency_key), 'Use a new key for a new request.'
    );
  end if;
end
$$;

comment on function credits.check_repeat(text, boolean) is
'PT409 unless the call asks for what its idempotency key was used for. A ledger row says itself what that was, and the '
'caller compares it; a hold does not say all of it (a prompt, a lifetime), so it keeps a hash of the request.';

-- sql/ledger/idempotency/key_is_new.sql
create function credits.key_is_new(account_id uuid, idempotency_key text) returns boolean
language plpgsql
volatile
set search_path = ''
as $$
begin
  return
    not exists (
      select from public.credit_transactions as t
      where t.account_id = key_is_new.account_id and t.idempotency_key = key_is_new.idempotency_key
    )
    and not exists (
      select from public.credit_holds as h
      where h.account_id = key_is_new.account_id and h.idempotency_key = key_is_new.idempotency_key
    );
end
$$;

comment on function credits.key_is_new(uuid, text) is
'Whether nothing of the account has the idempotency key. For the WHERE of the UPDATE that takes the account''s lock: '
'everything with a key changes the account''s row, so where the UPDATE had to wait, Postgres asks again once it has '
'the lock, and being volatile the function then sees what the other session has committed.';

-- sql/ledger/idempotency/keyed_hash.sql
create function credits.keyed_hash(idempotency_key text, variadic request text[]) returns bytea
language plpgsql
stable
set search_path = ''
as $$
begin
  perform credits.check_key(idempotency_key);
  return case when idempotency_key is not null then sha256(convert_to(request::text, 'UTF8')) end;
end
$$;

comment on function credits.keyed_hash(text, text[]) is
'SHA-256 of the request for a hold that came with an idempotency key (the call''s name, then each argument), by which '
'a repeat is told; null without a key; PT400 for a key that a caller may not use.';

-- sql/ledger/idempotency/refuse_key.sql
create function credits.refuse_key(idempotency_key text) returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  if starts_with(idempotency_key, 'sys:') then
    perform credits.fail('PT400', 'Keys that start with "sys:" are reserved.', '{}', 'Choose another idempotency_key.');
  end if;
  perform credits.fail(
    'PT400', 'idempotency_key must have 1 to 255 characters.', '{}', 'A UUID made by the client for each action is a good key.'
  );
  return null;
end
$$;

comment on function credits.refuse_key(text) is
'Raises PT400 for an idempotency key that credits.check_key has refused, and says why.';

-- sql/ledger/idempotency/repeated_spend.sql
create function credits.repeated_spend(
  entry public.credit_transactions,
  operation text,
  quantity integer,
  metadata jsonb
) returns public.credit_transactions
language plpgsql
stable
set search_path = ''
as $$
begin
  perform credits.check_repeat(
    entry.idempotency_key,
    entry.kind = 'spend' and entry.operation = repeated_spend.operation and entry.quantity = repeated_spend.quantity
    and entry.metadata = repeated_spend.metadata
  );
  return entry;
end
$$;

comment on function credits.repeated_spend(public.credit_transactions, text, integer, jsonb) is
'The ledger row that has the key of a spend, if it is of the same request; PT409 otherwise. consume_credits looks for '
'the key before it charges, and once more under the account''s lock (credits.key_is_new).';

-- sql/ledger/idempotency/replayed_entry.sql
create function credits.replayed_entry(account_id uuid, idempotency_key text) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  entry public.credit_transactions;
begin
  if idempotency_key is null then
    return null;
  end if;
  -- A call with this key that is under way holds the lock; from here on its row can be seen, or it has failed.
  perform from public.credit_accounts as a where a.id = replayed_entry.account_id for no key update;
  select t.* into entry from public.credit_transactions as t
  where t.account_id = replayed_entry.account_id and t.idempotency_key = replayed_entry.idempotency_key;
  perform credits.check_repeat(idempotency_key, not exists (
    select from public.credit_holds as h
    where h.account_id = replayed_entry.account_id and h.idempotency_key = replayed_entry.idempotency_key
  ));
  return entry;
end
$$;

comment on function credits.replayed_entry(uuid, text) is
'The account''s ledger row that was written with this idempotency key before; null for a new key or none. PT409 where '
'a hold has it. With a key it takes the account''s row lock, so that no other session can use it meanwhile. The caller '
'says with credits.check_repeat whether the row is what it asks for.';

-- sql/ledger/idempotency/replayed_hold.sql
create function credits.replayed_hold(account_id uuid, idempotency_key text, request_hash bytea)
returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  hold public.credit_holds;
begin
  if idempotency_key is null then
    return null;
  end if;
  -- As in credits.replayed_entry.
  perform from public.credit_accounts as a where a.id = replayed_hold.account_id for no key update;
  select h.* into hold from public.credit_holds as h
  where h.account_id = replayed_hold.account_id and h.idempotency_key = replayed_hold.idempotency_key;
  perform credits.check_repeat(
    idempotency_key,
    coalesce(hold.request_hash = replayed_hold.request_hash, true) and not exists (
      select from public.credit_transactions as t
      where t.account_id = replayed_hold.account_id and t.idempotency_key = replayed_hold.idempotency_key
    )
  );
  return hold;
end
$$;

comment on function credits.replayed_hold(uuid, text, bytea) is
'The account''s hold that the same request made with this idempotency key before; null for a new key or none. PT409 '
'where another request, or a ledger row, has it. With a key it takes the account''s row lock.';

-- sql/ledger/lots/add_lot.sql
create function credits.add_lot(
  entry public.credit_transactions,
  amount bigint,
  source public.grant_source,
  expires_at timestamptz,
  priority integer,
  returned_from bigint default null,
  cost_basis bigint default null,
  currency text default null
) returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into credits.credit_grants (
    account_id, id, transaction_id, amount, remaining, source, cost_basis, currency, expires_at, priority, returned_from,
    created_at
  )
  values (
    entry.account_id,
    (select coalesce(max(g.id), 0) + 1 from credits.credit_grants as g where g.account_id = entry.account_id),
    entry.id, add_lot.amount, add_lot.amount, add_lot.source, add_lot.cost_basis, add_lot.currency,
    add_lot.expires_at, coalesce(add_lot.priority, 50), add_lot.returned_from, entry.created_at
  );
end
$$;

comment on function credits.add_lot is
'Opens a lot for what the ledger row brought in. The caller holds the account''s lock, sets its next_expiry and pays '
'its debt.';

-- sql/ledger/lots/due_expiries.sql
create function credits.due_expiries(account_id uuid, moment timestamptz) returns table (
  grant_id bigint,
  expired_at timestamptz,
  credits bigint
)
language sql
stable
set search_path = ''
as $$
  with due as (
    select
      l.id,
      l.remaining,
      l.expires_at,
      -- Only a hold that was made while the lot lived can keep it alive.
      (
        select coalesce(sum(h.amount), 0)
        from public.credit_holds as h
        where
          h.account_id = due_expiries.account_id
          and h.status = 'held'
          and h.expires_at > moment
          and h.created_at < l.expires_at
      ) as holds
    from credits.lots_as_of_now(due_expiries.account_id) as l
    where l.expires_at <= moment
  ),

  summed as (
    select
      due.*,
      sum(due.remaining) over expiry_order as through
    from due
    window expiry_order as (order by due.expires_at, due.id)
  ),

  -- Lot by lot, kept(n) = least(kept(n - 1) + remaining(n), holds(n)); this is the same without the recursion.
  kept as (
    select
      summed.*,
      summed.through + least(0, min(summed.holds - summed.through) over expiry_order) as kept_through
    from summed
    window expiry_order as (order by summed.expires_at, summed.id)
  )

  select
    k.id,
    k.expires_at,
    k.remaining - (k.kept_through - lag(k.kept_through, 1, 0::numeric) over (order by k.expires_at, k.id))::bigint
  from kept as k;
$$;

comment on function credits.due_expiries(uuid, timestamptz) is
'What is gone, in credits, of each lot whose expiry has come by the moment. A hold rests on the credits that expire '
'first: as much of those as open holds made before the expiry cover stays until the holds end. The result depends on '
'the moment only, not on when the account was settled before.';

-- sql/ledger/lots/end_lot.sql
create function credits.end_lot(account_id uuid, lot_id bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  lot credits.credit_grants;
  account public.credit_accounts;
  gone bigint;
begin
  perform credits.settle_account(account_id);
  select * into lot from credits.credit_grants as g where g.account_id = end_lot.account_id and g.id = lot_id;
  select * into account from public.credit_accounts as a where a.id = end_lot.account_id;
  gone := greatest(0, lot.remaining - account.held);
  if gone > 0 then
    perform credits.write_off(account_id, lot.id, gone, credits.now(), '{"ended_early": true}');
  end if;
  if lot.remaining = gone then
    update credits.credit_grants as g
    set expires_at = least(g.expires_at, greatest(credits.now(), g.created_at + interval '1 microsecond'))
    where g.account_id = lot.account_id and g.id = lot.id;
  end if;
  update public.credit_accounts as a set next_expiry = credits.next_expiry(a.id, credits.now())
  where a.id = lot.account_id;
  perform credits.settle_account(account_id);
end
$$;

comment on function credits.end_lot(uuid, bigint) is
'Lets a lot expire now, before its time, which its expiry row says (ended_early). As much as open holds have set aside '
'stays until the lot''s own expiry. The caller holds the account''s lock.';

-- sql/ledger/lots/expire_due.sql
create function credits.expire_due(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  present constant timestamptz := credits.now();
  moment timestamptz;
  next timestamptz;
  freed bigint;
  lot record;
begin
  select a.next_expiry into next from public.credit_accounts as a where a.id = expire_due.account_id;
  -- What fell due one after the other is done one after the other, each at its own moment: so an expiry is dated when
  -- its lot expired, or when the hold ended that had kept it, however late this runs.
  loop
    moment := least(next, present);
    with swept as (
      update public.credit_holds as h set status = 'expired', closed_at = moment
      where h.account_id = expire_due.account_id and h.status = 'held' and h.expires_at <= moment
      returning h.amount
    )

    select coalesce(sum(s.amount), 0) into freed from swept as s;

    update public.credit_accounts as a
    set
      held = a.held - freed,
      available = credits.available(a.balance, a.held - freed),
      lapsed = 0,
      updated_at = moment
    where a.id = expire_due.account_id and (freed > 0 or a.lapsed > 0);

    for lot in
      select g.id, d.credits
      from credits.due_expiries(expire_due.account_id, moment) as d
      inner join credits.credit_grants as g on d.grant_id = g.id
      where g.account_id = expire_due.account_id and d.credits > 0
      order by d.expired_at, d.grant_id
    loop
      perform credits.write_off(account_id, lot.id, lot.credits, moment);
    end loop;

    update public.credit_accounts as a
    set
      lapsed = (
        select coalesce(sum(g.remaining), 0)
        from credits.credit_grants as g
        where g.account_id = a.id and g.is_live and g.expires_at <= moment
      ),
      next_expiry = credits.next_expiry(a.id, moment),
      updated_at = moment
    where a.id = expire_due.account_id
    returning a.next_expiry into next;
    exit when next is null or next > present;
  end loop;
end
$$;

comment on function credits.expire_due(uuid) is
'Second part of a settlement: ends the holds whose time is over, writes off the lots that have expired (one expiry row '
'per lot and moment) and notes when to look again. Each as of when it fell due. The caller holds the account''s lock '
'and has allocated what was pending.';

-- sql/ledger/lots/next_expiry.sql
create function credits.next_expiry(account_id uuid, moment timestamptz) returns timestamptz
language sql
stable
set search_path = ''
as $$
  select least(
    (
      select min(g.expires_at)
      from credits.credit_grants as g
      where g.account_id = next_expiry.account_id and g.is_live and g.expires_at > moment
    ),
    (
      select min(h.expires_at)
      from public.credit_holds as h
      where h.account_id = next_expiry.account_id and h.status = 'held'
    )
  );
$$;

comment on function credits.next_expiry(uuid, timestamptz) is
'When time alone next changes the account after the moment: its first lot or open hold to expire; null for never.';

-- sql/ledger/lots/write_off.sql
create function credits.write_off(
  account_id uuid,
  lot_id bigint,
  amount bigint,
  moment timestamptz,
  metadata jsonb default '{}'
) returns void
language plpgsql
set search_path = ''
as $$
declare
  lot credits.credit_grants;
  entry public.credit_transactions;
begin
  update credits.credit_grants as g set remaining = g.remaining - write_off.amount
  where g.account_id = write_off.account_id and g.id = lot_id
  returning * into lot;
  entry := credits.post_entry(
    account_id, 'expiry', -amount,
    related_id => lot.transaction_id, metadata => metadata, actor => 'system', moment => moment
  );
  insert into credits.lot_payments (account_id, grant_id, first_id, last_id, first_amount, last_amount, number)
  select
    write_off.account_id, lot_id, entry.id, entry.id, write_off.amount, write_off.amount,
    coalesce(max(p.number), 0) + 1
  from credits.lot_payments as p
  where p.account_id = write_off.account_id;
end
$$;

comment on function credits.write_off is
'Lets amount credits of a lot expire: the ledger row, and that this lot paid for it. The caller holds the account''s '
'lock and has settled what was pending.';

-- sql/ledger/rpc/capture_hold.sql
create function public.capture_hold(
  account_id uuid,
  hold_id uuid,
  quantity integer default null,
  metadata jsonb default '{}'
) returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
  hold public.credit_holds;
  used integer;
  entry public.credit_transactions;
begin
  perform credits.check_metadata(metadata);
  hold := credits.lock_hold(account_id, hold_id);
  used := coalesce(quantity, hold.quantity);

  if hold.status = 'captured' then
    select * into entry from public.credit_transactions as t
    where t.account_id = hold.account_id and t.id = hold.transaction_id;
    if entry.quantity = used then
      return entry;
    end if;
    perform credits.fail(
      'PT409', 'The hold was captured with another quantity.',
      jsonb_build_object('hold_id', hold.id, 'captured', entry.quantity, 'quantity', used), 'A hold is captured once.'
    );
  elsif hold.status <> 'held' then
    perform credits.fail(
      'PT409', format('The hold was %s; it cannot be captured.', hold.status),
      jsonb_build_object('hold_id', hold.id, 'status', hold.status, 'closed_at', hold.closed_at), 'Make a new hold.'
    );
  elsif used not between 1 and hold.quantity then
    perform credits.fail(
      'PT400', format('quantity must be from 1 to the %s that are held.', hold.quantity),
      jsonb_build_object('quantity', used, 'held', hold.quantity), 'To take nothing, call release_hold.'
    );
  end if;
  return credits.capture(hold, used, metadata);
end
$$;

comment on function public.capture_hold(uuid, uuid, integer, jsonb) is
'Operator: charges quantity units (default: all) of what a hold of the account reserved, at its pinned price; the rest '
'is free again. Returns the ledger row; a repeat returns the same row. Errors: PT400 quantity, PT404 the account has '
'no such hold, PT409 released, expired or captured with another quantity.';

grant execute on function public.capture_hold(uuid, uuid, integer, jsonb) to service_role;

-- sql/ledger/rpc/consume_credits.sql
create function public.consume_credits(
  operation text,
  quantity integer default 1,
  idempotency_key text default null,
  metadata jsonb default '{}'
) returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
-- The prices fit on one page, which the planner would read and sort for each spend; the index has them in order.
set enable_seqscan = off
as $$
declare
  me uuid := credits.caller();
  account_id uuid;
  seen record;
  last_entry_seen bigint;
  price record;
  account record;
  entry public.credit_transactions;
begin
  if metadata is distinct from '{}' then
    perform credits.check_metadata(metadata);
  end if;
  if credits.check_key(idempotency_key) is not null then
    -- A repeat ends here, and writes nothing. A subquery, not a join: planned while few rows have keys, that would read
    -- all keys for one, and the plan is kept.
    select
      a.last_entry,
      (
        select t from public.credit_transactions as t
        where t.account_id = a.id and t.idempotency_key = consume_credits.idempotency_key
      ) as entry
    into seen
    from public.credit_accounts as a
    where a.user_id = me;
    if (seen.entry).id is not null then
      return credits.repeated_spend(seen.entry, operation, quantity, metadata);
    end if;
    last_entry_seen := seen.last_entry;
  end if;
  select * into price from credits.price(operation, quantity);

  -- Everything that needs no lock is done: the account's row is locked from here to the commit. Its user is looked up
  -- in the same statement, not by credits.account_of before it.
  loop
    update public.credit_accounts as a
    set
      balance = a.balance - price.credits,
      available = a.available - price.credits,
      lifetime_spent = a.lifetime_spent + price.credits,
      last_entry = a.last_entry + 1,
      unsettled_since = coalesce(a.unsettled_since, credits.now()),
      updated_at = credits.entry_moment(a.next_expiry)
    where
      a.user_id = me
      and a.available >= price.credits
      and a.frozen_at is null
      and a.last_entry - a.settled_through < credits.max_unsettled()
      and not credits.is_due(a.next_expiry)
      -- The key is still new where no ledger row came after the look-up above and no hold has a key. Else it is looked
      -- up once more, in a function: a subquery here would be part of the plan of all spends.
      and (
        consume_credits.idempotency_key is null
        or (a.last_entry = last_entry_seen and not a.has_keyed_holds)
        or credits.key_is_new(a.id, consume_credits.idempotency_key)
      )
    returning a.id, a.last_entry, a.balance, a.updated_at into account;
    if found then
      insert into public.credit_transactions (
        account_id, id, kind, amount, balance_after, operation, quantity, unit_price, price_version, actor,
        idempotency_key, metadata, created_at
      )
      values (
        account.id, account.last_entry, 'spend', -price.credits, account.balance, operation, quantity,
        price.credits_per_unit, price.version, 'authenticated', idempotency_key, metadata, account.updated_at
      )
      returning * into entry;
      exit;
    end if;

    account_id := coalesce(credits.account_of(me), credits.open_account(me));
    entry := credits.replayed_entry(account_id, idempotency_key);
    if entry.id is not null then
      return credits.repeated_spend(entry, operation, quantity, metadata);
    elsif price.credits is null then
      perform credits.refuse_price(operation, quantity);
    end if;
    perform credits.make_spendable(account_id, price.credits);
  end loop;
  return entry;
end
$$;

comment on function public.consume_credits(text, integer, text, jsonb) is
'Spends the signed-in user''s credits on quantity units of the operation, at the price in force; returns the ledger '
'row. With idempotency_key a repeat returns the first row and charges nothing. Errors: PT400 bad argument, PT402 not '
'enough credits (details: required, available, shortfall), PT403 not signed in or frozen, PT404 unknown operation, '
'PT409 key used for another request. A refused call leaves nothing behind, its key included.';

grant execute on function public.consume_credits(text, integer, text, jsonb) to authenticated;

-- sql/ledger/rpc/erase_account_text.sql
create function public.erase_account_text(account_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  answer jsonb;
begin
  if not exists (select from public.credit_accounts as a where a.id = erase_account_text.account_id) then
    perform credits.fail(
      'PT404', 'There is no such account.', jsonb_build_object('account_id', account_id), 'Check the account id.'
    );
  end if;
  answer := jsonb_build_object('transactions', credits.erase_texts(account_id));
  answer := answer || jsonb_build_object('holds', credits.erase_hold_texts(account_id));
  return answer || jsonb_build_object('open', (
    select count(*)
    from public.credit_holds as h
    left join public.generation_jobs as j on h.account_id = j.account_id and h.id = j.hold_id
    where
      h.account_id = erase_account_text.account_id
      and (h.status = 'held' or j.id is not null and j.finished_at is null)
  ));
end
$$;

comment on function public.erase_account_text(uuid) is
'Operator: erases what callers wrote in the account''s ledger rows and holds, for good, as erase_transaction_text '
'does; for an account whose user was deleted, too. Returns in how many: {transactions, holds, open}; open: holds and '
'generations under way, which keep their texts until they end. Call it again then. Errors: PT404 no such account.';

grant execute on function public.erase_account_text(uuid) to service_role;

-- sql/ledger/rpc/erase_transaction_text.sql
create function public.erase_transaction_text(account_id uuid, transaction_id bigint)
returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
  entry public.credit_transactions;
begin
  perform credits.erase_texts(account_id, transaction_id);
  perform credits.erase_hold_texts(account_id, transaction_id);
  select * into entry from public.credit_transactions as t
  where t.account_id = erase_transaction_text.account_id and t.id = erase_transaction_text.transaction_id;
  if not found then
    perform credits.fail(
      'PT404', 'The account has no such transaction.',
      jsonb_build_object('account_id', account_id, 'transaction_id', transaction_id), 'Check both ids.'
    );
  end if;
  return entry;
end
$$;

comment on function public.erase_transaction_text(uuid, bigint) is
'Operator: erases what a caller wrote in a ledger row of the account, for good: idempotency_key and metadata, also of '
'the hold that a capture used. Returns the row. Everything else of it stays, and verify_ledger finds nothing missing. '
'The key may be used again afterwards, and is a new request then. What the ledger wrote itself (keys that start with '
'"sys:", the causes of clawbacks) names nobody and stays. Errors: PT404 the account has no such transaction.';

grant execute on function public.erase_transaction_text(uuid, bigint) to service_role;

-- sql/ledger/rpc/grant_credits.sql
create function public.grant_credits(
  user_id uuid,
  amount bigint,
  source text,
  expires_at timestamptz default null,
  priority integer default null,
  idempotency_key text default null,
  metadata jsonb default '{}',
  cost_basis bigint default null,
  currency text default null
) returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
  account_id uuid := credits.open_account(user_id);
  entry public.credit_transactions;
begin
  perform credits.check_key(idempotency_key);
  entry := credits.replayed_entry(account_id, idempotency_key);
  if entry.id is not null then
    perform credits.check_repeat(idempotency_key, exists (
      select from credits.credit_grants as g
      where
        g.account_id = entry.account_id and g.transaction_id = entry.id and entry.kind = 'grant'
        and g.amount = grant_credits.amount and g.source::text = grant_credits.source
        and g.expires_at is not distinct from grant_credits.expires_at
        and g.priority = coalesce(grant_credits.priority, 50) and entry.metadata = grant_credits.metadata
        and g.cost_basis is not distinct from coalesce(grant_credits.cost_basis, case when g.promotional then 0 end)
        and g.currency is not distinct from lower(grant_credits.currency)
    ));
    return entry;
  end if;
  if source is null or source <> all (enum_range(null::public.grant_source)::text[]) then
    perform credits.fail(
      'PT400', 'source must be purchase, subscription, bonus, referral, promo or refund.',
      jsonb_build_object('source', left(source, 100)), 'It says where the credits come from.'
    );
  end if;
  return credits.grant_to_account(
    account_id, amount, source::public.grant_source, expires_at, priority, idempotency_key, metadata, cost_basis,
    currency
  );
end
$$;

comment on function public.grant_credits(
  uuid, bigint, text, timestamptz, integer, text, jsonb, bigint, text
) is
'Operator: grants amount credits to a user as one lot; returns the ledger row. source: purchase, subscription, bonus, '
'referral, promo or refund. priority: 0 burns first, 100 last, default 50. Without expires_at they never expire. '
'cost_basis: what was paid for all of them, net of tax, in minor units of currency, for the accounts; left out, it is '
'0 for what was given (bonus, referral, promo), else unknown. Errors: PT400 bad argument, PT404 no such user, PT409 '
'key used for another request.';

grant execute on function public.grant_credits(
  uuid, bigint, text, timestamptz, integer, text, jsonb, bigint, text
) to service_role;

-- sql/ledger/rpc/hold_credits.sql
create function public.hold_credits(
  operation text,
  quantity integer default 1,
  idempotency_key text default null,
  ttl interval default null,
  metadata jsonb default '{}'
) returns public.credit_holds
language plpgsql
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  account_id uuid;
  settings credits.billing_settings;
  lifetime interval;
  longest interval;
  price record;
  hash bytea;
  hold public.credit_holds;
begin
  perform credits.check_metadata(metadata);
  select * into settings from credits.billing_settings;
  -- Moments are compared, and the hold lives as long whenever it begins.
  lifetime := credits.lasting(coalesce(ttl, settings.hold_ttl), credits.now());
  longest := credits.lasting(settings.hold_ttl_max, credits.now());
  if not coalesce(lifetime between '1 second' and longest, false) then
    perform credits.fail(
      'PT400', format('ttl must be from 1 second to %s.', settings.hold_ttl_max),
      jsonb_build_object('ttl', ttl, 'limit', settings.hold_ttl_max), 'Leave ttl out for the usual one.'
    );
  end if;

  hash := credits.keyed_hash(idempotency_key, 'hold_credits', operation, quantity::text, ttl::text, metadata::text);
  select * into price from credits.price(operation, quantity);
  account_id := coalesce(credits.account_of(me), credits.open_account(me));
  hold := credits.hold_at_price(
    account_id, operation, quantity, price.credits_per_unit, price.version, price.credits, lifetime, idempotency_key, hash,
    metadata, is_limited => true
  );
  if hold.id is null then
    perform credits.refuse_price(operation, quantity);
  end if;
  return hold;
end
$$;

comment on function public.hold_credits(text, integer, text, interval, jsonb) is
'Reserves the signed-in user''s credits for quantity units of the operation and pins the price; returns the hold. It '
'lives for ttl, 1 second or more (default and longest: billing_settings). With idempotency_key a repeat returns the '
'same hold as it is now. Errors as consume_credits; PT400 also for ttl; PT429 beyond '
'billing_settings.max_holds_per_minute or max_open_holds (details: limit, retry_after in seconds), which a repeat '
'does not count against.';

grant execute on function public.hold_credits(text, integer, text, interval, jsonb) to authenticated;

-- sql/ledger/rpc/refund.sql
create function public.refund(
  account_id uuid,
  transaction_id bigint,
  amount bigint default null,
  reason text default null,
  idempotency_key text default null
) returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
  spent public.credit_transactions;
  said jsonb := jsonb_strip_nulls(jsonb_build_object('reason', reason));
  refundable bigint;
  entry public.credit_transactions;
begin
  select * into spent from public.credit_transactions as t
  where t.account_id = refund.account_id and t.id = refund.transaction_id;
  if not found then
    perform credits.fail(
      'PT404', 'The account has no such transaction.',
      jsonb_build_object('account_id', account_id, 'transaction_id', transaction_id), 'Check both ids.'
    );
  elsif spent.kind not in ('spend', 'capture') then
    perform credits.fail(
      'PT409', format('A %s cannot be refunded.', spent.kind),
      jsonb_build_object('transaction_id', transaction_id, 'kind', spent.kind), 'Only spends and captures can.'
    );
  elsif char_length(reason) > 500 then
    perform credits.fail('PT400', 'reason has more than 500 characters.', '{}', 'Say it shorter.');
  end if;

  perform credits.check_key(idempotency_key);
  entry := credits.replayed_entry(account_id, idempotency_key);
  if entry.id is not null then
    perform credits.check_repeat(
      idempotency_key,
      entry.kind = 'refund' and entry.related_id = spent.id and entry.metadata = said
      -- Without an amount it was all that was left then.
      and entry.amount = coalesce(amount, -spent.amount - (
        select coalesce(sum(t.amount), 0) from public.credit_transactions as t
        where t.account_id = spent.account_id and t.related_id = spent.id and t.kind = 'refund' and t.id < entry.id
      ))
    );
    return entry;
  end if;

  perform credits.lock_account(spent.account_id);
  refundable := credits.left_to_refund(spent);
  if refundable = 0 then
    perform credits.fail(
      'PT409', 'The transaction is refunded already.',
      jsonb_build_object('transaction_id', spent.id, 'spent', -spent.amount, 'refundable', 0), 'There is nothing left to refund.'
    );
  elsif coalesce(amount, refundable) not between 1 and refundable then
    perform credits.fail(
      'PT400', format('amount must be from 1 to the %s credits that are left to refund.', refundable),
      jsonb_build_object('transaction_id', spent.id, 'amount', amount, 'spent', -spent.amount, 'refundable', refundable),
      'Leave amount out to refund all that is left.'
    );
  end if;

  entry := credits.post_entry(
    spent.account_id, 'refund', coalesce(amount, refundable),
    related_id => spent.id,
    operation => spent.operation,
    idempotency_key => idempotency_key,
    metadata => said
  );
  perform credits.return_to_lots(entry);
  return entry;
end
$$;

comment on function public.refund(uuid, bigint, bigint, text, text) is
'Operator: gives back amount credits (default: all that is left) of a spend or a capture of the account; returns the '
'ledger row. They go back to the lots they came from; where a lot has expired since, to a new lot that lives for '
'billing_settings.refund_grace. Errors: PT400 amount, PT404 the account has no such transaction, PT409 nothing left, '
'not a spend, or key used for another request.';

grant execute on function public.refund(uuid, bigint, bigint, text, text) to service_role;

-- sql/ledger/rpc/release_hold.sql
create function public.release_hold(account_id uuid, hold_id uuid, reason text default null)
returns public.credit_holds
language plpgsql
security definer
set search_path = ''
as $$
declare
  hold public.credit_holds;
begin
  if char_length(reason) > 500 then
    perform credits.fail('PT400', 'reason has more than 500 characters.', '{}', 'Say it shorter.');
  end if;
  hold := credits.lock_hold(account_id, hold_id);
  if hold.status = 'captured' then
    perform credits.fail(
      'PT409', 'The hold was captured; it cannot be released.',
      jsonb_build_object('hold_id', hold.id, 'transaction_id', hold.transaction_id), 'Give credits back with refund.'
    );
  elsif hold.status <> 'held' then
    return hold;
  end if;
  return credits.release(hold, reason);
end
$$;

comment on function public.release_hold(uuid, uuid, text) is
'Operator: gives back everything that a hold of the account reserved; returns the hold. Releasing one that is released '
'or expired does nothing. Errors: PT400 reason, PT404 the account has no such hold, PT409 captured.';

grant execute on function public.release_hold(uuid, uuid, text) to service_role;

-- sql/ledger/rpc/verify_ledger.sql
create function public.verify_ledger(user_id uuid default null) returns table (
  account_id uuid,
  invariant text,
  details jsonb
)
language sql
stable
security definer
set search_path = ''
as $$
  with accounts as (
    select a.* from public.credit_accounts as a
    where verify_ledger.user_id is null or a.id = (select credits.account_of(verify_ledger.user_id))
  ),

  allocations as materialized (
    select x.account_id, x.transaction_id, x.grant_id, x.amount
    from credits.credit_allocations as x
    where verify_ledger.user_id is null or x.account_id in (select a.id from accounts as a)
  ),

  entries as (
    select
      t.*,
      lag(t.balance_after, 1, 0::bigint) over by_account as balance_before,
      lag(t.id, 1, 0::bigint) over by_account as previous_id,
      coalesce(x.amount, 0) as allocated,
      coalesce((
        select sum(g.amount) from credits.credit_grants as g
        where g.account_id = t.account_id and g.transaction_id = t.id
      ), 0) as lots
    from public.credit_transactions as t
    left join (
      select x.account_id, x.transaction_id, sum(x.amount) as amount from allocations as x
      group by x.account_id, x.transaction_id
    ) as x on t.account_id = x.account_id and t.id = x.transaction_id
    where verify_ledger.user_id is null or t.account_id in (select a.id from accounts as a)
    window by_account as (partition by t.account_id order by t.id)
  ),

  totals as (
    select
      e.account_id,
      count(*) filter (where e.id > a.settled_through) as unsettled,
      max(e.id) as last_id,
      sum(e.amount) as balance,
      coalesce(sum(e.amount) filter (where e.kind = 'grant'), 0) as granted,
      coalesce(sum(e.amount) filter (where e.kind = 'refund'), 0) as refunded,
      coalesce(-sum(e.amount) filter (where e.kind in ('spend', 'capture')), 0) as spent,
      coalesce(-sum(e.amount) filter (where e.kind = 'expiry'), 0) as expired,
      coalesce(-sum(e.amount) filter (where e.kind = 'clawback'), 0) as clawed_back,
      coalesce(sum(-e.amount - e.allocated) filter (where e.amount < 0), 0) as unpaid,
      min(e.id) filter (where e.amount < 0 and -e.amount > e.allocated) as first_unpaid
    from entries as e
    left join accounts as a on e.account_id = a.id
    group by e.account_id
  ),

  lots as (
    select
      g.*,
      lag(g.id, 1, 0::bigint) over by_account as previous_id,
      coalesce(x.amount, 0) as allocated
    from credits.credit_grants as g
    left join (
      select x.account_id, x.grant_id, sum(x.amount) as amount from allocations as x group by x.account_id, x.grant_id
    ) as x on g.account_id = x.account_id and g.id = x.grant_id
    where verify_ledger.user_id is null or g.account_id in (select a.id from accounts as a)
    window by_account as (partition by g.account_id order by g.id)
  ),

  holds as (
    select h.* from public.credit_holds as h
    where verify_ledger.user_id is null or h.account_id in (select a.id from accounts as a)
  ),

  batches as (
    select
      s.*,
      lag(s.hash) over by_account as previous_hash,
      lag(s.number, 1, 0) over by_account as previous_number,
      lag(s.through_id, 1, 0::bigint) over by_account as after_id
    from credits.ledger_seals as s
    where verify_ledger.user_id is null or s.account_id in (select a.id from accounts as a)
    window by_account as (partition by s.account_id order by s.number)
  )

  select a.id, 'balance is the sum of the ledger', jsonb_build_object('balance', a.balance, 'sum', coalesce(t.balance, 0))
  from accounts as a
  left join totals as t on a.id = t.account_id
  where a.balance <> coalesce(t.balance, 0)
  union all
  select
    a.id,
    'lifetime totals are the sums of the ledger',
    jsonb_build_object(
      'account', jsonb_build_array(
        a.lifetime_granted, a.lifetime_refunded, a.lifetime_spent, a.lifetime_expired, a.lifetime_clawed_back
      ),
      'ledger', jsonb_build_array(t.granted, t.refunded, t.spent, t.expired, t.clawed_back)
    )
  from accounts as a
  left join totals as t on a.id = t.account_id
  where
    (a.lifetime_granted, a.lifetime_refunded, a.lifetime_spent, a.lifetime_expired, a.lifetime_clawed_back)
    <> (
      coalesce(t.granted, 0), coalesce(t.refunded, 0), coalesce(t.spent, 0), coalesce(t.expired, 0),
      coalesce(t.clawed_back, 0)
    )
  union all
  select
    e.account_id,
    'ledger rows are numbered without a gap',
    jsonb_build_object('transaction_id', e.id, 'previous', e.previous_id)
  from entries as e
  where e.id <> e.previous_id + 1
  union all
  select
    l.account_id,
    'lots are numbered without a gap',
    jsonb_build_object('grant_id', l.id, 'previous', l.previous_id)
  from lots as l
  where l.id <> l.previous_id + 1
  union all
  select
    a.id,
    'the account knows the number of its newest ledger row',
    jsonb_build_object('last_entry', a.last_entry, 'last_id', coalesce(t.last_id, 0))
  from accounts as a
  left join totals as t on a.id = t.account_id
  where a.last_entry <> coalesce(t.last_id, 0)
  union all
  select
    e.account_id,
    'each balance_after follows from the one before',
    jsonb_build_object('transaction_id', e.id, 'before', e.balance_before, 'amount', e.amount, 'after', e.balance_after)
  from entries as e
  where e.balance_after <> e.balance_before + e.amount
  union all
  select
    e.account_id,
    'grants and refunds add, all else takes, and a spend costs its price',
    jsonb_build_object(
      'transaction_id', e.id, 'kind', e.kind, 'amount', e.amount, 'unit_price', e.unit_price, 'quantity', e.quantity
    )
  from entries as e
  where
    e.amount = 0
    or (e.amount > 0) <> (e.kind in ('grant', 'refund'))
    or (e.kind in ('spend', 'capture')) <> coalesce(e.amount = -ceil(e.unit_price * e.quantity), false)
    or (e.kind = 'capture') <> (e.hold_id is not null)
    or e.kind = 'refund' and e.related_id is null
  union all
  select
    e.account_id,
    'only clawbacks, and captures and expiries after one, take a balance below zero',
    jsonb_build_object('transaction_id', e.id, 'kind', e.kind, 'after', e.balance_after)
  from entries as e
  where e.balance_after < least(0, e.balance_before) and e.kind not in ('clawback', 'capture', 'expiry')
  union all
  select
    a.id,
    'available is the balance less what is held, and not below zero',
    jsonb_build_object('balance', a.balance, 'held', a.held, 'available', a.available)
  from accounts as a
  where a.available <> greatest(0, a.balance - a.held)
  union all
  select e.account_id, 'every ledger row has an account', jsonb_build_object('transaction_id', e.id)
  from entries as e
  where not exists (select from public.credit_accounts as a where a.id = e.account_id)
  union all
  select
    a.id,
    'held is the sum of the open holds',
    jsonb_build_object('held', a.held, 'holds', coalesce(sum(h.amount), 0))
  from accounts as a
  left join holds as h on a.id = h.account_id and h.status = 'held'
  group by a.id, a.held
  having a.held <> coalesce(sum(h.amount), 0)
  union all
  select
    h.account_id,
    'a captured hold has one capture, within what was held',
    jsonb_build_object('hold_id', h.id, 'held', h.amount, 'captured', -e.amount)
  from holds as h
  left join entries as e on h.account_id = e.account_id and h.id = e.hold_id
  where
    (h.status = 'captured') <> (e.id is not null)
    or h.transaction_id is distinct from e.id
    or -e.amount > h.amount
    or e.unit_price <> h.unit_price
  union all
  select
    e.account_id,
    'a capture names a hold',
    jsonb_build_object('transaction_id', e.id, 'hold_id', e.hold_id)
  from entries as e
  where
    e.hold_id is not null
    and not exists (select from public.credit_holds as h where h.account_id = e.account_id and h.id = e.hold_id)
  union all
  select
    l.account_id,
    'what remains of a lot is its amount less its allocations',
    jsonb_build_object('grant_id', l.id, 'amount', l.amount, 'remaining', l.remaining, 'allocated', l.allocated)
  from lots as l
  where l.remaining <> l.amount - l.allocated
  union all
  select
    a.id,
    'lots less unpaid debits are the balance',
    jsonb_build_object('balance', a.balance, 'lots', coalesce(l.remaining, 0), 'unpaid', coalesce(t.unpaid, 0))
  from accounts as a
  left join totals as t on a.id = t.account_id
  left join (select lots.account_id, sum(lots.remaining) as remaining from lots group by lots.account_id) as l
    on a.id = l.account_id
  where a.balance <> coalesce(l.remaining, 0) - coalesce(t.unpaid, 0)
  union all
  select
    e.account_id,
    'each transaction has the lots that it should have',
    jsonb_build_object(
      'transaction_id', e.id, 'kind', e.kind, 'amount', e.amount, 'allocated', e.allocated, 'lots', e.lots
    )
  from entries as e
  left join accounts as a on e.account_id = a.id
  where
    case
      when e.kind = 'grant' then e.lots <> e.amount or e.allocated <> 0
      when e.kind = 'refund' then e.lots - e.allocated <> e.amount
      when e.id <= a.settled_through and (a.debt_from is null or e.id < a.debt_from)
        then e.allocated <> -e.amount or e.lots <> 0
      else e.allocated not between 0 and -e.amount or e.lots <> 0
    end
  union all
  select a.id, 'debt_from names the oldest unpaid debit', jsonb_build_object('debt_from', a.debt_from, 'oldest', t.first_unpaid)
  from accounts as a
  left join totals as t on a.id = t.account_id
  where
    a.debt_from is not null and a.debt_from is distinct from t.first_unpaid
    or a.debt_from is null and t.first_unpaid <= a.settled_through
  union all
  select
    l.account_id,
    'a lot belongs to a ledger row of its account',
    jsonb_build_object('grant_id', l.id, 'transaction_id', l.transaction_id)
  from lots as l
  left join public.credit_transactions as t on l.account_id = t.account_id and l.transaction_id = t.id
  where t.id is null or t.kind not in ('grant', 'refund')
  union all
  select
    x.account_id,
    'an allocation joins a lot and a ledger row of its account',
    jsonb_build_object('grant_id', x.grant_id, 'transaction_ids', array[x.first_id, x.last_id])
  from (
    select p.account_id, p.grant_id, p.first_id, p.last_id, true as is_debit from credits.lot_payments as p
    union all
    select r.account_id, r.grant_id, r.transaction_id, r.transaction_id, false from credits.lot_returns as r
  ) as x
  left join credits.credit_grants as l on x.account_id = l.account_id and x.grant_id = l.id
  left join public.credit_transactions as f on x.account_id = f.account_id and x.first_id = f.id
  left join public.credit_transactions as t on x.account_id = t.account_id and x.last_id = t.id
  where
    (l.id is null or ((f.amount < 0) <> x.is_debit) is not false or ((t.amount < 0) <> x.is_debit) is not false)
    and (verify_ledger.user_id is null or x.account_id in (select a.id from accounts as a))
  union all
  select
    e.account_id,
    'refunds do not exceed what their transaction spent',
    jsonb_build_object('transaction_id', e.id, 'spent', -e.amount, 'refunded', sum(r.amount))
  from entries as e
  inner join entries as r on e.account_id = r.account_id and e.id = r.related_id and r.kind = 'refund'
  group by e.account_id, e.id, e.amount, e.kind
  having sum(r.amount) > -e.amount or e.kind not in ('spend', 'capture', 'clawback')
  union all
  select
    e.account_id,
    'a refund names a transaction that exists',
    jsonb_build_object('transaction_id', e.id, 'related_id', e.related_id)
  from entries as e
  where
    e.related_id is not null
    and not exists (
      select from public.credit_transactions as t where t.account_id = e.account_id and t.id = e.related_id
    )
  union all
  select
    b.account_id,
    'each seal matches its ledger rows',
    jsonb_build_object('seal', b.number, 'through_id', b.through_id, 'sealed_entries', b.entries, 'entries', r.entries)
  from batches as b
  cross join lateral (
    select
      count(*) as entries,
      max(t.id) as last_id,
      string_agg(
        credits.entry_digest(
          t, b.format, coalesce(x.digest, credits.text_digest(t, coalesce(x.salt, credits.text_salt(b.salt, t.id))))
        ),
        '' order by t.id
      ) as digests
    from public.credit_transactions as t
    left join credits.sealed_texts as x on t.account_id = x.account_id and t.id = x.transaction_id
    where t.account_id = b.account_id and t.id > b.after_id and t.id <= b.through_id
  ) as r
  where
    b.number <> b.previous_number + 1
    or r.entries <> b.entries
    or r.last_id is distinct from b.through_id
    or b.hash <> credits.seal_hash(b.previous_hash, coalesce(r.digests, ''))
  union all
  select
    b.account_id,
    'each seal has a format that is known',
    jsonb_build_object('seal', b.number, 'format', b.format)
  from batches as b
  where b.format not between 1 and credits.seal_format()
  union all
  select
    e.account_id,
    'an erased row has no text',
    jsonb_build_object('transaction_id', e.id)
  from entries as e
  inner join credits.sealed_texts as x on e.account_id = x.account_id and e.id = x.transaction_id
  where x.digest is not null and (e.idempotency_key is not null or e.metadata <> '{}')
  union all
  select
    e.account_id,
    'an expiry is not dated before its lot expired',
    jsonb_build_object('transaction_id', e.id, 'created_at', e.created_at, 'expires_at', l.expires_at)
  from entries as e
  inner join credits.lot_payments as p on e.account_id = p.account_id and e.id = p.first_id
  inner join lots as l on p.account_id = l.account_id and p.grant_id = l.id
  where e.kind = 'expiry' and e.created_at < l.expires_at and not e.metadata ? 'ended_early'
  union all
  select
    a.id,
    'the account is settled through its last seal',
    jsonb_build_object('settled_through', a.settled_through, 'sealed_through', coalesce(max(b.through_id), 0))
  from accounts as a
  left join batches as b on a.id = b.account_id
  group by a.id, a.settled_through
  having a.settled_through <> coalesce(max(b.through_id), 0)
  union all
  select
    a.id,
    'maintenance knows of every unsettled account',
    jsonb_build_object(
      'settled_through', a.settled_through, 'last_entry', a.last_entry, 'unsettled', coalesce(t.unsettled, 0),
      'unsettled_since', a.unsettled_since
    )
  from accounts as a
  left join totals as t on a.id = t.account_id
  where
    a.last_entry - a.settled_through <> coalesce(t.unsettled, 0)
    or a.last_entry > a.settled_through and a.unsettled_since is null
  union all
  select a.id, 'the account knows that holds have keys', '{}'::jsonb
  from accounts as a
  where
    not a.has_keyed_holds
    and exists (select from holds as h where h.account_id = a.id and h.idempotency_key is not null)
  union all
  select
    coalesce(e.account_id, c.account_id),
    'each clawback says why it was made',
    jsonb_build_object('transaction_id', coalesce(e.id, c.transaction_id), 'cause', c.cause)
  from (select * from entries where entries.kind = 'clawback') as e
  full join (
    select * from credits.clawbacks as k
    where verify_ledger.user_id is null or k.account_id in (select a.id from accounts as a)
  ) as c
    on e.account_id = c.account_id and e.id = c.transaction_id
  where e.id is null or c.transaction_id is null
  union all
  select
    coalesce(u.account_id, c.account_id),
    'the usage of a day is the sum of its spends, captures and refunds',
    jsonb_build_object(
      'day', coalesce(u.day, c.day), 'price_version', coalesce(u.price_version, c.price_version),
      'kept', jsonb_build_array(u.transactions, u.quantity, u.spent, u.refunded, u.refunded_of),
      'ledger', jsonb_build_array(c.transactions, c.quantity, c.spent, c.refunded, c.refunded_of)
    )
  from (
    select * from credits.usage_days as k
    where verify_ledger.user_id is null or k.account_id in (select a.id from accounts as a)
  ) as u
  full join (
    select a.id as account_id, l.*
    from accounts as a
    cross join lateral credits.usage_of(a.id, credits.account_zone(a.id), 0, a.settled_through) as l
  ) as c
    on u.account_id = c.account_id and u.day = c.day and u.price_version = c.price_version
  where
    (u.transactions, u.quantity, u.spent, u.refunded, u.refunded_of)
    is distinct from (c.transactions, c.quantity, c.spent, c.refunded, c.refunded_of)
  union all
  select
    p.account_id,
    'what a purchase has brought and lost is the sum of its grants and clawbacks',
    jsonb_build_object(
      'purchase_id', p.id, 'granted', p.credits_granted, 'grants', g.credits, 'clawed_back', p.credits_clawed_back,
      'clawbacks', c.credits
    )
  from public.purchases as p
  cross join lateral (
    select coalesce(sum(e.amount), 0) as credits
    from credits.purchase_grants as o
    inner join public.credit_transactions as e
      on o.account_id = e.account_id and o.transaction_id = e.id and e.kind = 'grant'
    where o.account_id = p.account_id and o.purchase_id = p.id
  ) as g
  cross join lateral (
    select
      coalesce(sum(-t.amount - coalesce((
        select sum(r.amount) from public.credit_transactions as r
        where r.account_id = t.account_id and r.related_id = t.id and r.kind = 'refund'
      ), 0)), 0) as credits
    from credits.clawbacks as o
    inner join public.credit_transactions as t on o.account_id = t.account_id and o.transaction_id = t.id
    where o.account_id = p.account_id and o.purchase_id = p.id and o.cause = 'money_back'
  ) as c
  where
    (verify_ledger.user_id is null or p.account_id in (select a.id from accounts as a))
    and (p.credits_granted <> g.credits or p.credits_clawed_back <> c.credits)
  union all
  select
    a.id,
    'next_expiry is not later than what expires next',
    jsonb_build_object('next_expiry', a.next_expiry, 'next', credits.next_expiry(a.id, a.updated_at))
  from accounts as a
  where not coalesce(a.next_expiry <= credits.next_expiry(a.id, a.updated_at), credits.next_expiry(a.id, a.updated_at) is null);
$$;

comment on function public.verify_ledger(uuid) is
'Operator: checks every rule of the ledger from its rows, for one user or for all; returns one row per broken '
'invariant: account, the invariant in words, figures. No row when all is well. Among the rules are the seals that '
'credits.settle_batch makes. Reads everything: run a whole check '
'from a direct connection, not through the API, once the ledger is large.';

grant execute on function public.verify_ledger(uuid) to service_role;

-- sql/ledger/settlement/accounts_to_settle.sql
create function credits.accounts_to_settle(settle_after interval, batch integer) returns uuid[]
language plpgsql
stable
set search_path = ''
as $$
declare
  moment constant timestamptz := credits.now();
  before constant timestamptz := credits.settle_before(settle_after);
begin
  return (
    select coalesce(array_agg(due.id order by due.since), '{}')
    from (
      -- No index serves this: what it would hold changes with the spends, and each would pay for it.
      select a.id, least(a.unsettled_since, a.next_expiry) as since
      from public.credit_accounts as a
      where
        credits.wants_settling(a, moment, before)
        and not exists (
          select from credits.maintenance_failures as f
          where f.account_id = a.id and f.task = 'settlement' and f.retry_at > moment
        )
      order by since
      limit batch
    ) as due
  );
end
$$;

comment on function credits.accounts_to_settle(interval, integer) is
'Up to batch accounts that want settling (credits.wants_settling), who has waited longest first; without those that '
'failed and are not to be tried yet. It reads all accounts.';

-- sql/ledger/settlement/await_account.sql
create function credits.await_account(account_id uuid) returns void
language plpgsql
set search_path = ''
set lock_timeout = '3s'
as $$
begin
  perform from public.credit_accounts as a where a.id = await_account.account_id for no key update;
end
$$;

comment on function credits.await_account(uuid) is
'Takes the account''s lock, for which it waits up to 3 seconds: longer than others of the maintenance may.';

-- sql/ledger/settlement/entry_digest.sql
create function credits.entry_digest(
  entry public.credit_transactions,
  format smallint,
  text_digest bytea
) returns bytea
language sql
stable
as $$
  select sha256(convert_to(credits.ledger_line(entry, format, text_digest), 'UTF8'));
$$;

comment on function credits.entry_digest(public.credit_transactions, smallint, bytea) is
'SHA-256 of a ledger row as credits.ledger_line writes it: what its seal is made over.';

-- sql/ledger/settlement/has_text.sql
create function credits.has_text(entry public.credit_transactions) returns boolean
language sql
immutable
as $$
  select entry.idempotency_key is not null or entry.metadata <> '{}';
$$;

comment on function credits.has_text(public.credit_transactions) is
'Whether a ledger row has anything that can be erased: an idempotency key or metadata. Without a SET clause it is '
'planned as part of its caller.';

-- sql/ledger/settlement/ledger_line.sql
create function credits.ledger_line(
  entry public.credit_transactions,
  format smallint,
  text_digest bytea
) returns text
language sql
stable
as $$
  select case format
    when 1 then row(
      entry.account_id, entry.id, entry.kind, entry.amount, entry.balance_after, entry.operation, entry.quantity,
      entry.unit_price, entry.price_version, entry.hold_id, entry.related_id, entry.actor,
      extract(epoch from entry.created_at)
    )::text
    || coalesce(' text=' || encode(text_digest, 'hex'), '')
  end;
$$;

comment on function credits.ledger_line(public.credit_transactions, smallint, bytea) is
'A ledger row as one line of text, the same in every session whatever its time zone or date style; null in a format '
'that there is not. format: see credits.seal_format. What the caller wrote goes in as its digest, so that it can be '
'erased: see credits.sealed_texts. A column that is added later is appended as '' name=value'' where it is not null.';

-- sql/ledger/settlement/max_unsettled.sql
create function credits.max_unsettled() returns integer
language sql
immutable
as $$
  select 50000;
$$;

comment on function credits.max_unsettled() is
'With so many ledger rows unsettled a spend or a capture settles some first, so that a grant, which needs all of them '
'settled, never takes long. More than the busiest account writes between two maintenances. Without a SET clause it is '
'planned as part of its caller.';

-- sql/ledger/settlement/seal_format.sql
create function credits.seal_format() returns smallint
language sql
immutable
as $$
  select 1::smallint;
$$;

comment on function credits.seal_format() is
'The format of the seals that are made now; each keeps its own (ledger_seals.format), by which it is verified. A '
'column that comes later needs no other one: credits.ledger_line appends it where it is not null, and no old row has '
'it. Only what changes the line of rows that are there does.';

-- sql/ledger/settlement/seal_hash.sql
create function credits.seal_hash(previous bytea, digests bytea) returns bytea
language sql
immutable
as $$
  select sha256(coalesce(previous, '') || digests);
$$;

comment on function credits.seal_hash(bytea, bytea) is
'SHA-256 over the previous seal''s hash and the digests (credits.entry_digest) of the batch''s ledger rows, in order '
'of id, end to end. credits.settle_batch makes it for each batch, verify_ledger makes it again and compares.';

-- sql/ledger/settlement/settle_account.sql
create function credits.settle_account(
  account_id uuid,
  usable_from timestamptz default null,
  preferred_lot bigint default null,
  batches integer default null
) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform credits.settle_accounts(array[account_id], usable_from, preferred_lot, batches);
end
$$;

comment on function credits.settle_account(uuid, timestamptz, bigint, integer) is
'credits.settle_accounts for one account.';

-- sql/ledger/settlement/settle_accounts.sql
create function credits.settle_accounts(
  accounts uuid[],
  usable_from timestamptz default null,
  preferred_lot bigint default null,
  batches integer default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  pending uuid[] := accounts;
  due uuid[];
begin
  loop
    perform credits.settle_batch(pending, usable_from, preferred_lot);
    pending := credits.unsettled_of(pending);
    exit when pending is null;
    batches := batches - 1;
    if batches = 0 then
      return;
    end if;
  end loop;

  select array_agg(a.id) into due
  from public.credit_accounts as a
  where a.id = any(accounts) and credits.is_due(a.next_expiry, a.lapsed);
  if due is null then
    return;
  end if;
  for n in 1 .. cardinality(due) loop
    perform credits.expire_due(due[n]);
  end loop;
  pending := credits.unsettled_of(due);
  while pending is not null loop
    perform credits.settle_batch(pending);
    pending := credits.unsettled_of(pending);
  end loop;
end
$$;

comment on function credits.settle_accounts(uuid[], timestamptz, bigint, integer) is
'Brings lots, expiry, daily usage and seals of the accounts up to their newest ledger rows, so that they are as if '
'each spend had done it at once. In batches (credits.settle_batch): however much is pending, it takes little memory. '
'batches: after so many it stops, with what came first settled and what is due still to expire; null for all. The '
'caller holds the accounts'' locks. usable_from and preferred_lot: see credits.settle_batch.';

-- sql/ledger/settlement/settle_batch.sql
create function credits.settle_batch(
  accounts uuid[],
  usable_from timestamptz default null,
  preferred_lot bigint default null
) returns void
language plpgsql
set search_path = ''
-- One plan for whatever accounts: to make one takes longer than to settle some.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  with account as materialized (
    select
      a.id,
      a.settled_through,
      a.debt_from,
      a.last_entry,
      a.unsettled_since,
      gen_random_uuid() as salt,
      coalesce((select z.zone from credits.account_zones as z where z.account_id = a.id), 'UTC') as zone,
      -- Nothing fell due between the pending rows, or the one after it would have settled first: so a lot that is alive
      -- at the account's last row was alive at each of them. A subquery: joined, it could be read anew for each debit.
      (
        select t.created_at from public.credit_transactions as t
        where t.account_id = a.id and t.id = a.last_entry
      ) as last_entry_at,
      least(a.last_entry, a.settled_through + credits.settlement_batch()) as through_id,
      paid.number as paid_number,
      -- The newest payment, where the next one may go on with it.
      case when a.debt_from is null and not paid.is_late then paid.grant_id end as paying_lot
    from public.credit_accounts as a
    left join lateral (
      select p.number, p.grant_id, p.is_late from credits.lot_payments as p
      where p.account_id = a.id
      order by p.number desc
      limit 1
    ) as paid on true
    where a.id = any(accounts)
  ),

  entry as materialized (
    select
      a.id as account_id,
      t.id,
      t.kind,
      t.amount,
      t.quantity,
      t.price_version,
      t.related_id,
      a.zone,
      (t.created_at at time zone a.zone)::date as day,
      -- A digest per row, not the rows' text: a batch of large ones would not fit into one value.
      credits.entry_digest(
        t, credits.seal_format(), credits.text_digest(t, credits.text_salt(a.salt, t.id))
      ) as digest,
      case when credits.has_text(t) then a.salt end as salt
    from account as a
    inner join public.credit_transactions as t
      on a.id = t.account_id and t.id > a.settled_through and t.id <= a.through_id
  ),

  -- An expiry was paid where it was written, by the lot that expired.
  debit as materialized (
    select
      d.account_id,
      d.id,
      d.is_late,
      d.due,
      sum(d.due) over (partition by d.account_id order by d.id)::bigint as through
    from (
      select
        e.account_id,
        e.id,
        false as is_late,
        -e.amount as due
      from entry as e
      where e.amount < 0 and e.kind <> 'expiry'
      union all
      -- Old debts, of which the first may be partly paid.
      select
        a.id,
        t.id,
        true,
        -t.amount - coalesce((
          select sum(x.amount) from credits.credit_allocations as x
          where x.account_id = a.id and x.transaction_id = t.id
        ), 0)::bigint
      from account as a
      inner join public.credit_transactions as t
        on a.id = t.account_id and t.id >= a.debt_from and t.id <= a.settled_through
      where t.amount < 0 and t.kind <> 'expiry'
    ) as d
    where d.due > 0
  ),

  owing as materialized (
    select d.account_id, d.due, a.last_entry_at
    from (select x.account_id, max(x.through) as due from debit as x group by x.account_id) as d
    inner join account as a on d.account_id = a.id
  ),

  lot as materialized (
    select
      o.account_id,
      l.id,
      l.remaining,
      o.due,
      sum(l.remaining) over (
        partition by l.account_id
        order by
          coalesce(l.id = preferred_lot, false) desc,
          -- Credits that only a hold keeps go before those that would stay.
          -- They go as the holds rest on them: what expired first first, or a hold made later would lose its own.
          case when l.expires_at <= o.last_entry_at then l.expires_at end nulls last,
          l.burn_position
      )::bigint as through
    from owing as o
    inner join credits.lots_in_burn_order as l on o.account_id = l.account_id
    where
      l.account_id = any(accounts)
      and (l.expires_at is null or l.expires_at > coalesce(usable_from, o.last_entry_at))
  ),

  -- Debits and lots laid end to end: a lot pays for a debit where the two overlap. One row per lot and run of debits.
  run as materialized (
    select
      d.account_id,
      l.id as grant_id,
      d.is_late,
      min(d.id) as first_id,
      max(d.id) as last_id,
      min(least(d.through, l.through)) - min(greatest(d.through - d.due, l.through - l.remaining)) as first_amount,
      max(least(d.through, l.through)) - max(greatest(d.through - d.due, l.through - l.remaining)) as last_amount,
      max(least(d.through, l.through)) - min(greatest(d.through - d.due, l.through - l.remaining)) as amount,
      row_number() over (partition by d.account_id order by min(least(d.through, l.through))) as place
    from debit as d
    inner join lot as l
      on d.account_id = l.account_id and d.through - d.due < l.through and l.through - l.remaining < d.through
    -- Lots that none of these reach need not be compared with each.
    where l.through - l.remaining < l.due
    group by d.account_id, l.id, d.is_late, case when d.is_late then d.id end
  ),

  numbered as materialized (
    select
      r.*,
      coalesce(a.paid_number, 0) as paid_number,
      r.place = 1 and coalesce(a.paying_lot = r.grant_id, false) as goes_on,
      bool_or(r.place = 1 and coalesce(a.paying_lot = r.grant_id, false)) over (partition by r.account_id) as one_goes_on
    from run as r
    inner join account as a on r.account_id = a.id
  ),

  extended as (
    update credits.lot_payments as p
    set last_id = r.last_id, last_amount = r.last_amount
    from numbered as r
    where r.goes_on and p.account_id = r.account_id and p.number = r.paid_number
  ),

  paid as (
    insert into credits.lot_payments (
      account_id, grant_id, first_id, last_id, first_amount, last_amount, number, is_late
    )
    select
      r.account_id,
      r.grant_id,
      r.first_id,
      r.last_id,
      r.first_amount,
      r.last_amount,
      r.paid_number + r.place - case when r.one_goes_on then 1 else 0 end,
      r.is_late
    from numbered as r
    where not r.goes_on
  ),

  burned as (
    update credits.credit_grants as g set remaining = g.remaining - b.amount
    from (
      select r.account_id, r.grant_id, sum(r.amount)::bigint as amount from run as r group by r.account_id, r.grant_id
    ) as b
    where g.account_id = b.account_id and g.id = b.grant_id
  ),

  owed as (
    select d.account_id, min(d.id) as debt_from
    from debit as d
    left join (
      select l.account_id, sum(l.remaining) as remaining from lot as l group by l.account_id
    ) as l on d.account_id = l.account_id
    where d.through > coalesce(l.remaining, 0)
    group by d.account_id
  ),

  sealed as (
    insert into credits.ledger_seals (account_id, number, through_id, format, salt, entries, hash, sealed_at)
    select
      b.account_id,
      coalesce(s.number, 0) + 1,
      b.last_id,
      credits.seal_format(),
      b.salt,
      b.entries,
      credits.seal_hash(s.hash, b.digests),
      credits.now()
    from (
      select
        e.account_id,
        count(*) as entries,
        max(e.id) as last_id,
        (array_agg(e.salt) filter (where e.salt is not null))[1] as salt,
        string_agg(e.digest, '' order by e.id) as digests
      from entry as e
      group by e.account_id
    ) as b
    left join lateral (
      select p.number, p.hash from credits.ledger_seals as p
      where p.account_id = b.account_id
      order by p.number desc
      limit 1
    ) as s on true
  ),

  used as (
    insert into credits.usage_days as u (
      account_id, day, price_version, transactions, quantity, spent, refunded, refunded_of
    )
    select
      p.account_id,
      p.day,
      p.price_version,
      sum(p.transactions),
      sum(p.quantity),
      sum(p.spent),
      sum(p.refunded),
      sum(p.refunded_of)
    from (
      select
        e.account_id,
        e.day,
        e.price_version,
        1 as transactions,
        e.quantity,
        -e.amount as spent,
        0::bigint as refunded,
        0::bigint as refunded_of
      from entry as e
      where e.price_version is not null
      union all
      -- A refund counts on its own day, and against the day of its spend: credits.usage_of says the same.
      select e.account_id, d.day, s.price_version, 0, 0, 0::bigint, d.refunded, d.refunded_of
      from entry as e
      inner join public.credit_transactions as s on e.account_id = s.account_id and e.related_id = s.id
      cross join lateral (
        values (e.day, e.amount, 0::bigint), ((s.created_at at time zone e.zone)::date, 0::bigint, e.amount)
      ) as d (day, refunded, refunded_of)
      where e.kind = 'refund' and s.price_version is not null
    ) as p
    group by p.account_id, p.day, p.price_version
    on conflict on constraint usage_days_pkey do update set
      transactions = u.transactions + excluded.transactions,
      quantity = u.quantity + excluded.quantity,
      spent = u.spent + excluded.spent,
      refunded = u.refunded + excluded.refunded,
      refunded_of = u.refunded_of + excluded.refunded_of
  )

  update public.credit_accounts as a
  set
    settled_through = s.through_id,
    unsettled_since = case when s.last_entry > s.through_id then coalesce(
      (select t.created_at from public.credit_transactions as t where t.account_id = a.id and t.id = s.through_id + 1),
      a.unsettled_since
    ) end,
    debt_from = o.debt_from
  from account as s
  left join owed as o on s.id = o.account_id
  where a.id = s.id;
end
$$;

comment on function credits.settle_batch(uuid[], timestamptz, bigint) is
'Settles the oldest credits.settlement_batch rows of each of the accounts that are not settled: pays their debits, and '
'debts before them, from the lots, oldest first, in burn order; adds them to the daily usage; chains a seal over them. '
'usable_from: lots that expire after it may pay; preferred_lot pays first: both for one account. What the '
'lots cannot pay (a clawback''s debt) waits for the next grant. One statement, for one account or hundreds: its price '
'is in the statement. The caller holds the accounts'' locks.';

-- sql/ledger/settlement/settle_before.sql
create function credits.settle_before(settle_after interval) returns timestamptz
language plpgsql
stable
set search_path = ''
as $$
declare
  moment constant timestamptz := credits.now();
begin
  -- Of a day that is over one wants to read all.
  return greatest(moment - settle_after, date_trunc('day', moment, 'UTC') - interval '1 microsecond');
end
$$;

comment on function credits.settle_before(interval) is
'Maintenance settles what was written until then: what has waited for settle_after, and what is of an earlier day '
'(UTC).';

-- sql/ledger/settlement/settlement_batch.sql
create function credits.settlement_batch() returns integer
language sql
immutable
as $$
  select 1000;
$$;

comment on function credits.settlement_batch() is
'How many ledger rows a settlement takes at a time, and a seal covers at most: what bounds its memory. Without a SET '
'clause it is planned as part of its caller.';

-- sql/ledger/settlement/sweep_settlement.sql
create function credits.sweep_settlement(
  batch integer,
  settle_after interval,
  waiting uuid[] default null
) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  moment constant timestamptz := credits.now();
  before constant timestamptz := credits.settle_before(settle_after);
  -- Ledger rows for which it takes locks: what bounds the time that it holds them.
  most constant integer := 10 * credits.settlement_batch();
  rows_taken bigint := 0;
  ends_at timestamptz;
  places integer;
  overdue uuid;
  candidate record;
  together uuid[] := array[]::uuid[];
  again uuid[] := array[]::uuid[];
  settled integer := 0;
begin
  if coalesce(waiting, '{}') = '{}' then
    -- For some calls at once: see there.
    waiting := credits.accounts_to_settle(settle_after, 10 * batch);
  end if;
  places := least(batch, cardinality(waiting));

  -- An account that is spent from without a pause is never free when SKIP LOCKED looks. Wait for one such account,
  -- while this transaction holds no other lock that it could be waited for.
  select a.id into overdue
  from unnest(waiting[:places]) with ordinality as w (id, place)
  inner join public.credit_accounts as a on w.id = a.id
  where
    credits.wants_settling(a, moment, before)
    and (
      least(a.unsettled_since, a.next_expiry) < moment - settle_after - interval '1 minute'
      or a.last_entry - a.settled_through >= most
    )
  order by w.place
  limit 1;
  if overdue is not null then
    perform credits.attempt('settlement', 'select to_jsonb(credits.await_account($1[1]))', array[overdue]);
  end if;

  -- Of users who are being deleted each may be waited for, and others wait for all accounts that are locked meanwhile.
  ends_at := clock_timestamp() + interval '1 second';
  for candidate in
    select
      a.id,
      a.last_entry - a.settled_through as pending,
      a.next_expiry <= moment as is_due,
      w.place
    from unnest(waiting[:places]) with ordinality as w (id, place)
    inner join public.credit_accounts as a on w.id = a.id
    where credits.wants_settling(a, moment, before)
    order by w.place
    for no key update of a skip locked
  loop
    if rows_taken >= most or clock_timestamp() >= ends_at then
      places := candidate.place - 1;
      exit;
    end if;
    rows_taken := rows_taken + candidate.pending;
    -- By itself, what takes more than one statement. To expire what is due writes the account's row a second time, for
    -- which Postgres locks its user, and may have to wait for one who is being deleted.
    if candidate.is_due or candidate.pending > credits.settlement_batch() then
      if credits.try_settling(array[candidate.id]) = 1 then
        settled := settled + 1;
        again := again || case when candidate.pending > most then array[candidate.id] end;
      end if;
    else
      together := together || candidate.id;
    end if;
  end loop;
  if together <> '{}' then
    settled := settled + credits.try_settling(together);
  end if;

  -- Over, by whomever: nothing is pending or due any more that was when it failed.
  delete from credits.maintenance_failures as f
  where f.id in (
    select o.id
    from credits.maintenance_failures as o
    inner join public.credit_accounts as a on o.account_id = a.id
    where o.task = 'settlement' and coalesce(least(a.unsettled_since, a.next_expiry) > o.last_at, true)
    -- Another run has it, or has just written it.
    for update of o skip locked
  );
  waiting := waiting[places + 1:] || again;
  return jsonb_build_object(
    'done', settled,
    -- Where a whole batch is locked by others, to look once more at once would find the same.
    'more', waiting <> '{}' or places = batch and settled > 0,
    'waiting', to_jsonb(waiting)
  );
end
$$;

comment on function credits.sweep_settlement(integer, interval, uuid[]) is
'Settles up to batch accounts that want it (credits.wants_settling), those first that have waited longest; of one with '
'very many ledger rows the oldest, and with many rows, or after a second, fewer accounts. waiting: whom to begin with, '
'as the call before returned them; without any it looks for them. Skips what others have locked, and notes what fails. '
'Returns what credits.run_task does.';

-- sql/ledger/settlement/text_digest.sql
create function credits.text_digest(entry public.credit_transactions, salt bytea) returns bytea
language sql
stable
as $$
  select case
    when credits.has_text(entry)
      then sha256(coalesce(salt, '') || convert_to(row(entry.idempotency_key, entry.metadata)::text, 'UTF8'))
  end;
$$;

comment on function credits.text_digest(public.credit_transactions, bytea) is
'Salted SHA-256 of a ledger row''s idempotency key and metadata, for its seal; null where it has neither. Without a '
'SET clause it is planned as part of its caller.';

-- sql/ledger/settlement/text_salt.sql
create function credits.text_salt(seal_salt uuid, transaction_id bigint) returns bytea
language sql
immutable
as $$
  select sha256(uuid_send(seal_salt) || int8send(transaction_id));
$$;

comment on function credits.text_salt(uuid, bigint) is
'The salt of one ledger row, made from that of its seal (ledger_seals.salt), which nobody can make from it: see '
'credits.sealed_texts. Without a SET clause it is planned as part of its caller.';

-- sql/ledger/settlement/try_settling.sql
create function credits.try_settling(accounts uuid[]) returns integer
language plpgsql
set search_path = ''
as $$
declare
  half integer := cardinality(accounts) / 2;
begin
  if credits.attempt(
    'settlement', 'select to_jsonb(credits.settle_accounts($1, batches => 10))', accounts
  ) is not null then
    return cardinality(accounts);
  elsif half = 0 then
    return 0;
  end if;
  return credits.try_settling(accounts[:half]) + credits.try_settling(accounts[half + 1:]);
end
$$;

comment on function credits.try_settling(uuid[]) is
'Settles the accounts together, up to 10 batches of each; returns how many it settled. Where that fails, each half by '
'itself, and so on: one that cannot be settled is noted as a failure, and the others are settled. The caller holds the '
'accounts'' locks.';

-- sql/ledger/settlement/unsettled_of.sql
create function credits.unsettled_of(accounts uuid[]) returns uuid[]
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select array_agg(a.id) from public.credit_accounts as a
    where a.id = any(accounts) and a.last_entry > a.settled_through
  );
end
$$;

comment on function credits.unsettled_of(uuid[]) is
'Those of the accounts with ledger rows that are not settled; null for none.';

-- sql/ledger/settlement/wants_settling.sql
create function credits.wants_settling(
  account public.credit_accounts,
  moment timestamptz,
  settle_before timestamptz
) returns boolean
language sql
immutable
as $$
  select
    account.next_expiry <= moment
    or account.unsettled_since <= settle_before
    or account.last_entry - account.settled_through >= credits.settlement_batch();
$$;

comment on function credits.wants_settling(public.credit_accounts, timestamptz, timestamptz) is
'Whether maintenance settles the account: a lot or hold has expired, a ledger row is from settle_before '
'(credits.settle_before) or earlier, or a whole credits.settlement_batch waits. Without a SET clause it is planned as '
'part of its caller.';

-- sql/ledger/tables/refuse_all_but_erasure.sql
create function credits.refuse_all_but_erasure() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  before jsonb := to_jsonb(old);
  after jsonb := to_jsonb(new);
  is_erased boolean;
begin
  if tg_relid = 'public.credit_transactions'::regclass then
    is_erased :=
      after = before || '{"idempotency_key": null, "metadata": {}}'
      and credits.is_callers_text(old)
      and exists (
        select from credits.sealed_texts as x
        where x.account_id = old.account_id and x.transaction_id = old.id and x.digest is not null
      );
  else
    is_erased :=
      after = before || '{"salt": null}'
      and exists (
        select from credits.sealed_texts as x
        inner join public.credit_transactions as t on x.account_id = t.account_id and x.transaction_id = t.id
        where
          x.account_id = old.account_id and x.digest is not null
          and x.transaction_id between old.through_id - old.entries + 1 and old.through_id
          -- It is still there: the salt goes first.
          and credits.is_callers_text(t)
      );
  end if;
  if not is_erased then
    raise exception '%.% is append-only: UPDATE is refused.', tg_table_schema, tg_table_name
      using errcode = 'PT403',
        hint = 'Correct a mistake with a new row: refund, grant_credits or credits.claw_back. To erase what a caller '
          'wrote, call erase_transaction_text or erase_account_text.';
  end if;
  return new;
end
$$;

comment on function credits.refuse_all_but_erasure() is
'Refuses UPDATE, whoever asks, but for the one that credits.erase_texts does: a caller''s text that '
'credits.sealed_texts says is erased is taken out of its ledger row, or the salt out of its seal, and nothing else '
'changes. What the ledger wrote itself, such as the keys by which a bonus or a payment comes once, nobody takes out.';

create trigger only_erased before update on public.credit_transactions
for each row execute function credits.refuse_all_but_erasure();
create trigger only_erased before update on credits.ledger_seals
for each row execute function credits.refuse_all_but_erasure();

-- sql/ledger/tables/refuse_change.sql
create function credits.refuse_change() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception '%.% is append-only: % is refused.', tg_table_schema, tg_table_name, tg_op
    using errcode = 'PT403', hint = 'Correct a mistake with a new row: refund, grant_credits or credits.claw_back.';
end
$$;

comment on function credits.refuse_change() is 'Refuses UPDATE, DELETE and TRUNCATE, whoever asks.';

create trigger append_only before delete on public.credit_transactions
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on public.credit_transactions
for each statement execute function credits.refuse_change();

create trigger append_only before delete on credits.lot_payments
for each row execute function credits.refuse_change();
-- A payment grows while the same lot goes on paying, and never changes otherwise.
create trigger only_grows before update on credits.lot_payments
for each row when (
  (new.account_id, new.number, new.grant_id, new.first_id, new.first_amount, new.is_late)
  is distinct from (old.account_id, old.number, old.grant_id, old.first_id, old.first_amount, old.is_late)
  or old.is_late
  or new.last_id <= old.last_id
) execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.lot_payments
for each statement execute function credits.refuse_change();
create trigger append_only before update or delete on credits.lot_returns
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.lot_returns
for each statement execute function credits.refuse_change();

create trigger append_only before delete on credits.ledger_seals
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.ledger_seals
for each statement execute function credits.refuse_change();
create trigger append_only before delete on credits.sealed_texts
for each row execute function credits.refuse_change();
create trigger only_erased before update on credits.sealed_texts
for each row when (
  old.digest is not null
  or new.digest is null
  or (new.account_id, new.transaction_id) is distinct from (old.account_id, old.transaction_id)
) execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.sealed_texts
for each statement execute function credits.refuse_change();

create trigger append_only before update or delete on credits.operator_entries
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.operator_entries
for each statement execute function credits.refuse_change();
-- By these a refund knows what to take back and a dispute that is won what to give back.
create trigger append_only before update or delete on credits.clawbacks
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.clawbacks
for each statement execute function credits.refuse_change();
create trigger append_only before update or delete on credits.purchase_grants
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.purchase_grants
for each statement execute function credits.refuse_change();
create trigger append_only before update or delete on credits.allotment_sources
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.allotment_sources
for each statement execute function credits.refuse_change();
create trigger no_delete before delete on public.purchases
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on public.purchases
for each statement execute function credits.refuse_change();

create trigger append_only before update or delete on credits.pricing_tier_history
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.pricing_tier_history
for each statement execute function credits.refuse_change();

create trigger no_delete before delete on public.credit_accounts
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on public.credit_accounts
for each statement execute function credits.refuse_change();
create trigger no_delete before delete on credits.credit_grants
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.credit_grants
for each statement execute function credits.refuse_change();
-- One that ended without a capture moved nothing: credits.sweep_holds.
create trigger no_delete before delete on public.credit_holds
for each row when (old.status not in ('released', 'expired')) execute function credits.refuse_change();
create trigger no_truncate before truncate on public.credit_holds
for each statement execute function credits.refuse_change();

-- sql/payments/checkout/count_checkout.sql
create function credits.count_checkout(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  counted record := credits.count_call(account_id, 'checkout');
  most integer := (select s.max_checkouts_per_minute from credits.billing_settings as s);
begin
  if counted.calls > most then
    perform credits.fail(
      'PT429', 'Too many checkouts in this minute.',
      jsonb_build_object('limit', most, 'retry_after', counted.retry_after), 'Wait, then try again.'
    );
  end if;
end
$$;

comment on function credits.count_checkout(uuid) is
'Counts a page of Stripe''s that the account is about to open. PT429 beyond '
'billing_settings.max_checkouts_per_minute (details: limit, retry_after in seconds).';

-- sql/payments/checkout/email_to_tell.sql
create function credits.email_to_tell(user_id uuid, told bytea) returns text
language sql
stable
set search_path = ''
as $$
  select u.email::text
  from auth.users as u
  where
    u.id = user_id
    and u.email <> ''
    and sha256(convert_to(u.email, 'UTF8')) is distinct from told;
$$;

comment on function credits.email_to_tell(uuid, bytea) is
'The user''s e-mail address, unless it is what Stripe was told (by its SHA-256) or there is none: then null.';

-- sql/payments/events/accept_invoice.sql
create function credits.accept_invoice(account_id uuid, invoice jsonb) returns boolean
language plpgsql
stable
set search_path = ''
as $$
declare
  details jsonb := invoice #> '{parent,subscription_details}';
  plan public.subscription_plans;
begin
  if jsonb_typeof(invoice #> '{lines,data}') is distinct from 'array' then
    perform credits.fail('PT422', 'The invoice shows no lines.', '{}', 'Is it of a current API version?');
  end if;
  select p.* into plan
  from jsonb_array_elements(invoice #> '{lines,data}') as l
  inner join public.subscription_plans as p
    on credits.stripe_id(l.value #> '{pricing,price_details,price}') = p.stripe_price_id
  order by (p.currency = l.value ->> 'currency') nulls first
  limit 1;
  if plan.id is null then
    if
      -- Paid by a customer of ours: for a plan whose row is yet to come, or for something else. A person has to say.
      (account_id is null or invoice ->> 'status' <> 'paid')
      and details #>> '{metadata,plan}' is null
      and not exists (
        select from public.subscriptions as s
        where
          s.account_id = accept_invoice.account_id
          and s.id = credits.stripe_id(details -> 'subscription')
          and s.plan is not null
      )
    then
      return false;
    elsif not coalesce((invoice #>> '{lines,has_more}')::boolean, false) then
      perform credits.fail(
        'PT422', 'No line of the invoice has a Price that is in subscription_plans.',
        jsonb_build_object('plan', details #> '{metadata,plan}'),
        'Insert a row with its Price, inactive if it is no longer sold; then retry_stripe_events applies it. If it is for '
        'something else, dismiss_stripe_event.'
      );
    end if;
  end if;
  if account_id is null then
    perform credits.fail(
      'PT422', 'The invoice is for a plan of ours, but neither its metadata nor its customer names an account.',
      jsonb_build_object('plan', plan.slug, 'customer', invoice -> 'customer'),
      'Link the customer with link_stripe_customer; then retry_stripe_events applies it.'
    );
  elsif (invoice #>> '{lines,has_more}')::boolean then
    perform credits.fail(
      'PT422', 'The invoice has more lines than the event shows.', '{}', 'scripts/reconcile reads it whole.'
    );
  elsif plan.currency <> invoice ->> 'currency' then
    perform credits.fail(
      'PT422', 'The invoice is in another currency than the plan of its Price.',
      jsonb_build_object('plan', plan.slug, 'currency', plan.currency, 'invoice', invoice ->> 'currency'),
      'Give each currency a Price and a row in subscription_plans.'
    );
  end if;
  return true;
end
$$;

comment on function credits.accept_invoice(uuid, jsonb) is
'Whether to take a subscription''s invoice: true for one of a plan of ours, false for one that is none of our '
'business. account_id: null where it is nobody''s. PT422 for one that is ours, or may be, and cannot be granted as it '
'is: nobody''s, of a Price that no plan has, in another currency, or not shown whole.';

-- sql/payments/events/apply_balance_transaction.sql
create function credits.apply_balance_transaction(transaction jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  told record := credits.balance_figures(transaction);
begin
  update credits.stripe_balance_transactions as b
  set
    amount = told.amount,
    fee = told.fee,
    currency = told.currency,
    exchange_rate = told.exchange_rate,
    booked_at = told.booked_at
  where b.id = transaction ->> 'id' and b.amount is null;
  return case
    when found then 'changed'
    when exists (select from credits.stripe_balance_transactions as b where b.id = transaction ->> 'id') then 'unchanged'
    else 'ignored: No payment, refund or dispute that is known names the balance transaction.'
  end;
end
$$;

comment on function credits.apply_balance_transaction(jsonb) is
'Learns the figures of a balance transaction that a charge, refund or dispute has named. Returns changed, unchanged or '
'ignored.';

-- sql/payments/events/apply_charge.sql
create function credits.apply_charge(charge jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(charge -> 'payment_intent');
  receipt text := case when charge ->> 'status' = 'succeeded' then charge ->> 'receipt_url' end;
  is_booked boolean;
begin
  if
    payment is null
    or charge ->> 'amount_refunded' = '0'
    and receipt is null
    and credits.stripe_id(charge -> 'balance_transaction') is null
  then
    return 'ignored: Nothing of the charge was booked or refunded and it has no receipt, or it has no payment intent.';
  end if;
  -- Where one Stripe account serves several apps, theirs fill no table. What is bought here has a customer that is known
  -- before. (A refund counts whoever paid: its purchase may come later.)
  if
    charge ->> 'amount_refunded' = '0'
    and not exists (
      select from credits.stripe_customers as c where c.customer_id = credits.stripe_id(charge -> 'customer')
    )
    and not exists (select from credits.stripe_payments as p where p.payment_intent_id = payment)
  then
    return 'ignored: The charge is of no customer and no payment of ours.';
  end if;
  perform credits.lock_stripe_object(payment);
  is_booked := credits.note_balance_transaction(charge -> 'balance_transaction', payment, charge ->> 'id', 'payment');
  is_booked := credits.note_balance_transaction(
    charge -> 'failure_balance_transaction', payment, charge ->> 'id', 'payment_failure'
  ) or is_booked;
  insert into credits.stripe_payments as p (payment_intent_id, refunded, receipt_url)
  values (payment, (charge ->> 'amount_refunded')::bigint, receipt)
  on conflict (payment_intent_id) do update set
    refunded = greatest(p.refunded, excluded.refunded),
    -- Of a receipt's addresses the first is as good as a later one.
    receipt_url = coalesce(p.receipt_url, excluded.receipt_url)
  where excluded.refunded > p.refunded or p.receipt_url is null and excluded.receipt_url is not null;
  if found then
    perform credits.net_payment(payment);
  elsif not is_booked then
    return 'unchanged';
  end if;
  return 'changed';
end
$$;

comment on function credits.apply_charge(jsonb) is
'Notes the total that a charge says was refunded, its receipt, and how Stripe booked it, and holds its purchase '
'against them. One of a customer and a payment that nobody knows is none of ours. Returns changed, unchanged or '
'ignored.';

-- sql/payments/events/apply_checkout_session.sql
create function credits.apply_checkout_session(session jsonb, event_type text) returns text
language plpgsql
set search_path = ''
as $$
declare
  session_id text := session ->> 'id';
  payment text := credits.stripe_id(session -> 'payment_intent');
  pinned text := session #>> '{metadata,credits}';
  known credits.stripe_objects;
  account uuid;
  told public.purchase_status;
  many integer;
  purchase public.purchases;
begin
  if session ->> 'mode' not in ('payment', 'subscription') then
    return 'ignored: The session was not made by the function checkout.';
  end if;
  perform credits.lock_stripe_object(session_id);
  -- Known once, known for good: whose it is, and what it sells, is not what its metadata say by now.
  select * into known from credits.stripe_objects as o where o.id = session_id;
  if known.id is null and session #>> '{metadata,account_id}' is null then
    return 'ignored: The session was not made by the function checkout.';
  end if;
  account := coalesce(known.account_id, credits.paying_account(null, session #>> '{metadata,account_id}'));
  if session ->> 'mode' = 'subscription' then
    if session ->> 'status' <> 'complete' then
      return 'ignored: Nobody has subscribed yet.';
    end if;
    perform credits.lock_account(account);
    perform credits.link_customer(account, credits.stripe_id(session -> 'customer'));
    return case
      when credits.open_subscription(account, credits.stripe_id(session -> 'subscription'), session #>> '{metadata,plan}')
        then 'changed'
      else 'unchanged'
    end;
  end if;

  if known.purchase_id is not null then
    select * into purchase from public.purchases as p where p.account_id = account and p.id = known.purchase_id;
  elsif session #>> '{metadata,package}' is null then
    return 'ignored: The session sells no package.';
  elsif coalesce(pinned, '') !~ '^[1-9][0-9]{0,12}$' then
    perform credits.fail(
      'PT422', 'metadata.credits is not a whole number of credits.', jsonb_build_object('session', session_id),
      'Sessions of packages are made by the function checkout.'
    );
  end if;
  told := (case
    when session ->> 'payment_status' in ('paid', 'no_payment_required') and session ->> 'status' = 'complete' then 'paid'
    when event_type = 'checkout.session.async_payment_failed' then 'failed'
    when session ->> 'status' = 'expired' then 'expired'
    when session ->> 'status' = 'complete' then 'pending'
  end)::public.purchase_status;
  if told is null then
    return 'ignored: The session is still open.';
  elsif purchase.status >= told then
    return 'unchanged';
  end if;

  perform credits.lock_stripe_object(payment);
  perform credits.lock_account(account);
  if session ->> 'customer' is not null then
    perform credits.link_customer(account, credits.stripe_id(session -> 'customer'));
  end if;
  if purchase.id is null then
    -- Nothing to pay, say with a promotion code of 100 percent: not for as many as one likes.
    many := coalesce((session #>> '{metadata,quantity}')::integer, 1);
    if session ->> 'amount_total' = '0' then
      pinned := pinned::bigint / many * least(many, (select s.max_free_packages from credits.billing_settings as s));
    end if;
    insert into public.purchases (
      account_id, id, checkout_session_id, payment_intent_id, package, quantity, amount, net_amount, tax_amount,
      currency, status, credits
    )
    values (
      account, credits.next_purchase(account), session_id, payment, session #>> '{metadata,package}', many,
      (session ->> 'amount_total')::bigint,
      (session ->> 'amount_total')::bigint - (session #>> '{total_details,amount_tax}')::bigint,
      (session #>> '{total_details,amount_tax}')::bigint, session ->> 'currency', told, pinned::bigint
    )
    returning * into purchase;
    insert into credits.stripe_objects (id, account_id, purchase_id) values (session_id, account, purchase.id)
    on conflict (id) do update set purchase_id = excluded.purchase_id;
  else
    update public.purchases as p
    set
      status = told,
      payment_intent_id = coalesce(payment, p.payment_intent_id),
      amount = (session ->> 'amount_total')::bigint,
      net_amount = (session ->> 'amount_total')::bigint - (session #>> '{total_details,amount_tax}')::bigint,
      tax_amount = (session #>> '{total_details,amount_tax}')::bigint,
      updated_at = credits.now()
    where p.account_id = purchase.account_id and p.id = purchase.id
    returning * into purchase;
  end if;
  if payment is not null then
    perform credits.link_payment(account, purchase.id, payment);
  end if;

  if told = 'paid' then
    perform credits.grant_purchase(
      account, purchase.id, purchase.credits, 'purchase', null, null, session_id, purchase.net_amount
    );
  end if;
  perform credits.claw_back_share(account, purchase.id);
  perform credits.freeze_for_disputes(account, purchase.id);
  return 'changed';
end
$$;

comment on function credits.apply_checkout_session(jsonb, text) is
'What a Checkout session means: for a package, a purchase that is pending, failed, expired or paid, and granted when '
'paid; for a plan, whose customer and subscription they are, and no credits. Of the account that it was first told '
'for, whatever its metadata say later. Returns changed, unchanged or ignored.';

-- sql/payments/events/apply_customer.sql
create function credits.apply_customer(customer jsonb, event_type text) returns text
language plpgsql
set search_path = ''
as $$
begin
  if event_type is distinct from 'customer.deleted' and customer -> 'deleted' is distinct from 'true' then
    return 'ignored: The customer exists; only its deletion counts.';
  end if;
  insert into credits.stripe_customers as c (customer_id, deleted_at) values (customer ->> 'id', credits.now())
  on conflict (customer_id) do update set account_id = null, email_hash = null, deleted_at = excluded.deleted_at
  where c.deleted_at is null;
  return case when found then 'changed' else 'unchanged' end;
end
$$;

comment on function credits.apply_customer(jsonb, text) is
'Unlinks a deleted customer from its account; the ledger stays. Returns changed, unchanged or ignored.';

-- sql/payments/events/apply_dispute.sql
create function credits.apply_dispute(dispute jsonb, event_type text) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(dispute -> 'payment_intent');
  told text := coalesce(dispute ->> 'status', '');
  is_known boolean := told <> 'unknown' and told = any(enum_range(null::credits.dispute_stage)::text[]);
  booked jsonb;
  is_booked boolean := false;
begin
  if payment is null then
    return 'ignored: The dispute names no payment intent.';
  end if;
  perform credits.lock_stripe_object(payment);
  for booked in
    select b.value from jsonb_array_elements(dispute -> 'balance_transactions') as b
  loop
    is_booked := credits.note_balance_transaction(booked, payment, dispute ->> 'id', 'dispute') or is_booked;
  end loop;
  insert into credits.stripe_payments (payment_intent_id) values (payment) on conflict (payment_intent_id) do nothing;
  insert into credits.stripe_disputes as d (
    id, payment_intent_id, amount, currency, status, unknown_status, withdrawn, reinstated
  )
  values (
    dispute ->> 'id', payment, (dispute ->> 'amount')::bigint, dispute ->> 'currency',
    case when is_known then told else 'unknown' end::credits.dispute_stage, case when not is_known then told end,
    event_type is not distinct from 'charge.dispute.funds_withdrawn'
    or exists (
      select from jsonb_array_elements(dispute -> 'balance_transactions') as b where (b.value ->> 'amount')::numeric < 0
    ),
    event_type is not distinct from 'charge.dispute.funds_reinstated'
    -- Of its movements of money, one may bring it back.
    or exists (
      select from jsonb_array_elements(dispute -> 'balance_transactions') as b where (b.value ->> 'amount')::numeric > 0
    )
  )
  on conflict (id) do update set
    status = greatest(d.status, excluded.status),
    unknown_status = case when excluded.status > d.status then excluded.unknown_status else d.unknown_status end,
    -- An inquiry can become a dispute of another amount.
    amount = case when excluded.status > d.status then excluded.amount else d.amount end,
    withdrawn = d.withdrawn or excluded.withdrawn,
    reinstated = d.reinstated or excluded.reinstated
  where
    excluded.status > d.status
    or excluded.withdrawn and not d.withdrawn
    or excluded.reinstated and not d.reinstated;
  if found then
    perform credits.net_payment(payment);
  elsif not is_booked then
    return 'unchanged';
  end if;
  return 'changed';
end
$$;

comment on function credits.apply_dispute(jsonb, text) is
'Notes how far a dispute has come; takes its share of the credits and freezes the account while it stands '
'(credits.freeze_for_disputes), gives back exactly what was taken once it is won or the money is reinstated. One that '
'was prevented freezes nothing; it takes its share if Stripe took the money for it; so does one in a state that Stripe '
'has invented since. Inquiries (warning_…) are noted only. Returns changed, unchanged or ignored.';

-- sql/payments/events/apply_fraud_warning.sql
create function credits.apply_fraud_warning(warning jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(warning -> 'payment_intent');
begin
  if payment is null then
    return 'ignored: The warning names no payment intent.';
  end if;
  perform credits.lock_stripe_object(payment);
  insert into credits.stripe_payments (payment_intent_id) values (payment) on conflict (payment_intent_id) do nothing;
  insert into credits.stripe_fraud_warnings (id, payment_intent_id, fraud_type, freezes)
  select warning ->> 'id', payment, warning ->> 'fraud_type', s.freeze_on_fraud_warning
  from credits.billing_settings as s
  on conflict (id) do nothing;
  if not found then
    return 'unchanged';
  end if;
  perform credits.net_payment(payment);
  return 'changed';
end
$$;

comment on function credits.apply_fraud_warning(jsonb) is
'Notes that a card issuer warned of fraud; freezes the account if billing_settings.freeze_on_fraud_warning says so. '
'Takes no credits: a refund or a dispute does. Returns changed, unchanged or ignored.';

-- sql/payments/events/apply_invoice.sql
create function credits.apply_invoice(invoice jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  the_invoice text := invoice ->> 'id';
  details jsonb := invoice #> '{parent,subscription_details}';
  subscription text := credits.stripe_id(details -> 'subscription');
  account uuid;
  told public.purchase_status;
  purchase public.purchases;
  payment text;
  brings record;
begin
  told := (case
    when invoice ->> 'status' = 'paid' then 'paid'
    when invoice ->> 'status' = 'open' and (invoice ->> 'attempt_count')::integer > 0 then 'failed'
    when invoice ->> 'status' in ('void', 'uncollectible') then 'expired'
  end)::public.purchase_status;
  if
    subscription is null
    or coalesce(
      invoice ->> 'billing_reason' not in ('subscription_create', 'subscription_cycle', 'subscription_update'), true
    )
  then
    return 'ignored: The invoice is for no period and no change of a subscription.';
  elsif told is null then
    return 'ignored: The invoice is neither paid nor failed nor given up.';
  end if;
  perform credits.lock_stripe_object(the_invoice);
  select p.* into purchase
  from credits.stripe_objects as o
  inner join public.purchases as p on o.account_id = p.account_id and o.purchase_id = p.id
  where o.id = the_invoice;
  -- Paid is final; a message that could not be granted as it was has nothing to add to one that could.
  if purchase.status >= told then
    return 'unchanged';
  end if;
  -- Known once, known for good.
  account := coalesce(purchase.account_id, credits.subscriber(subscription, invoice -> 'customer', details -> 'metadata'));
  if not credits.accept_invoice(account, invoice) then
    return 'ignored: The subscription is to no plan of ours.';
  end if;

  for payment in
    select s.payment_intent_id from credits.stripe_payments as s where s.invoice_id = the_invoice order by 1
  loop
    perform credits.lock_stripe_object(payment);
  end loop;
  perform credits.lock_account(account);
  perform credits.open_subscription(account, subscription);
  perform credits.note_second_subscription(account, subscription) where told = 'paid';
  select max(g.plan) as plan, coalesce(sum(g.credits), 0) as credits into brings
  from credits.invoice_grants_and_rollover(invoice) as g;
  if purchase.id is null then
    insert into public.purchases (
      account_id, id, invoice_id, payment_intent_id, subscription_id, plan, amount, net_amount, tax_amount, currency,
      status, credits, hosted_invoice_url
    )
    values (
      account, credits.next_purchase(account), the_invoice,
      (select min(s.payment_intent_id) from credits.stripe_payments as s where s.invoice_id = the_invoice),
      subscription, brings.plan, (invoice ->> 'amount_paid')::bigint, (invoice ->> 'total_excluding_tax')::bigint,
      (invoice ->> 'total')::bigint - (invoice ->> 'total_excluding_tax')::bigint, invoice ->> 'currency', told,
      brings.credits, invoice ->> 'hosted_invoice_url'
    )
    returning * into purchase;
    insert into credits.stripe_objects (id, account_id, purchase_id) values (the_invoice, account, purchase.id);
    for payment in
      select s.payment_intent_id from credits.stripe_payments as s where s.invoice_id = the_invoice order by 1
    loop
      perform credits.link_payment(account, purchase.id, payment);
    end loop;
  else
    update public.purchases as p
    set
      status = told,
      amount = (invoice ->> 'amount_paid')::bigint,
      net_amount = (invoice ->> 'total_excluding_tax')::bigint,
      tax_amount = (invoice ->> 'total')::bigint - (invoice ->> 'total_excluding_tax')::bigint,
      credits = brings.credits,
      plan = brings.plan,
      hosted_invoice_url = coalesce(invoice ->> 'hosted_invoice_url', p.hosted_invoice_url),
      updated_at = credits.now()
    where p.account_id = purchase.account_id and p.id = purchase.id
    returning * into purchase;
  end if;

  if told = 'paid' then
    perform credits.grant_invoice(account, purchase.id, invoice);
  end if;
  perform credits.set_subscription_status(account, subscription);
  perform credits.claw_back_share(account, purchase.id);
  perform credits.collect_subscription_debts(account);
  perform credits.end_late_grants(account);
  perform credits.freeze_for_disputes(account, purchase.id);
  return 'changed';
end
$$;

comment on function credits.apply_invoice(jsonb) is
'What an invoice of a subscription means: a purchase that is failed, given up or paid; the paid one grants what '
'credits.invoice_grants_and_rollover says, once, and a failed one leaves what was granted before. Returns changed, '
'unchanged or ignored; PT422 for one that cannot be read.';

-- sql/payments/events/apply_invoice_payment.sql
create function credits.apply_invoice_payment(invoice_payment jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  the_invoice text := credits.stripe_id(invoice_payment -> 'invoice');
  known credits.stripe_objects;
  payment text := credits.stripe_id(invoice_payment #> '{payment,payment_intent}');
begin
  if the_invoice is null or payment is null then
    return 'ignored: The invoice was paid without a payment intent.';
  end if;
  perform credits.lock_stripe_object(the_invoice);
  perform credits.lock_stripe_object(payment);
  insert into credits.stripe_payments as p (payment_intent_id, invoice_id) values (payment, the_invoice)
  on conflict (payment_intent_id) do update set invoice_id = excluded.invoice_id
  where p.invoice_id is null;
  if not found then
    return 'unchanged';
  end if;
  select o.* into known from credits.stripe_objects as o where o.id = the_invoice;
  if known.purchase_id is not null then
    perform credits.link_payment(known.account_id, known.purchase_id, payment);
    update public.purchases as p set payment_intent_id = payment
    where p.account_id = known.account_id and p.id = known.purchase_id and p.payment_intent_id is null;
  end if;
  perform credits.net_payment(payment);
  return 'changed';
end
$$;

comment on function credits.apply_invoice_payment(jsonb) is
'Learns which payment intent pays an invoice, so that its refunds and disputes find the purchase. Returns changed, '
'unchanged or ignored.';

-- sql/payments/events/apply_refund.sql
create function credits.apply_refund(refund jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(refund -> 'payment_intent');
  told text := coalesce(refund ->> 'status', 'pending');
  is_known boolean := told <> 'unknown' and told = any(enum_range(null::credits.refund_stage)::text[]);
  is_booked boolean;
begin
  if payment is null then
    return 'ignored: The refund is of a charge without a payment intent, and we make none.';
  end if;
  perform credits.lock_stripe_object(payment);
  is_booked := credits.note_balance_transaction(refund -> 'balance_transaction', payment, refund ->> 'id', 'refund');
  is_booked := credits.note_balance_transaction(
    refund -> 'failure_balance_transaction', payment, refund ->> 'id', 'refund_failure'
  ) or is_booked;
  insert into credits.stripe_payments (payment_intent_id) values (payment) on conflict (payment_intent_id) do nothing;
  insert into credits.stripe_refunds as r (id, payment_intent_id, amount, status, unknown_status)
  values (
    refund ->> 'id', payment, (refund ->> 'amount')::bigint,
    case when is_known then told else 'unknown' end::credits.refund_stage, case when not is_known then told end
  )
  on conflict (id) do update set status = excluded.status, unknown_status = excluded.unknown_status
  where excluded.status > r.status;
  if found then
    perform credits.net_payment(payment);
  elsif not is_booked then
    return 'unchanged';
  end if;
  return 'changed';
end
$$;

comment on function credits.apply_refund(jsonb) is
'Notes how far a refund has come, and how Stripe booked it; credits.claw_back_share says how many credits that takes. '
'A refund that fails after it succeeded is the later news, whatever the order of arrival; one in a state that Stripe '
'has invented since counts until another is told. Returns changed, unchanged or ignored.';

-- sql/payments/events/apply_stripe_object.sql
create function credits.apply_stripe_object(object jsonb, event_type text default null) returns text
language plpgsql
set search_path = ''
as $$
begin
  return case object ->> 'object'
    when 'checkout.session' then credits.apply_checkout_session(object, event_type)
    when 'invoice' then credits.apply_invoice(object)
    when 'invoice_payment' then credits.apply_invoice_payment(object)
    when 'subscription' then credits.apply_subscription(object, event_type is not null)
    when 'refund' then credits.apply_refund(object)
    when 'charge' then credits.apply_charge(object)
    when 'dispute' then credits.apply_dispute(object, event_type)
    when 'radar.early_fraud_warning' then credits.apply_fraud_warning(object)
    when 'balance_transaction' then credits.apply_balance_transaction(object)
    when 'customer' then credits.apply_customer(object, event_type)
    else 'ignored: Such objects have no effect here.'
  end;
end
$$;

comment on function credits.apply_stripe_object(jsonb, text) is
'The effects of one Stripe object, from an event of event_type or as retrieved (null). What an object means is in '
'the object, not in when it came: so it may come late, twice and in any order. Returns changed, unchanged, or '
'ignored: and why, as each apply function does.';

-- sql/payments/events/apply_subscription.sql
create function credits.apply_subscription(subscription jsonb, is_event boolean) returns text
language plpgsql
set search_path = ''
as $$
declare
  old public.subscriptions;
  new public.subscriptions;
  account uuid;
  old_rank record;
  new_rank record;
  period bigint;
begin
  select p.slug, (i.value ->> 'quantity')::integer into new.plan, new.quantity
  from jsonb_array_elements(subscription #> '{items,data}') as i
  inner join public.subscription_plans as p on credits.stripe_id(i.value #> '{price}') = p.stripe_price_id
  order by p.id
  limit 1;
  new.id := subscription ->> 'id';
  if
    new.plan is null
    and subscription #>> '{metadata,account_id}' is null
    and not exists (select from credits.stripe_objects as o where o.id = new.id)
  then
    return 'ignored: The subscription is to no plan of ours.';
  end if;
  account := credits.subscriber(new.id, subscription -> 'customer', subscription -> 'metadata');
  if account is null then
    perform credits.fail(
      'PT422', 'The subscription is to a plan of ours, but neither its metadata nor its customer names an account.',
      jsonb_build_object('plan', new.plan, 'customer', subscription -> 'customer'),
      'Link the customer with link_stripe_customer; then retry_stripe_events applies it.'
    );
  end if;

  new.stripe_status := subscription ->> 'status';
  select
    to_timestamp(max((i.value ->> 'current_period_start')::bigint)),
    to_timestamp(max((i.value ->> 'current_period_end')::bigint))
  into new.current_period_start, new.current_period_end
  from jsonb_array_elements(subscription #> '{items,data}') as i;
  new.trial_end := to_timestamp((subscription ->> 'trial_end')::bigint);
  new.cancel_at := to_timestamp((subscription ->> 'cancel_at')::bigint);
  new.canceled_at := to_timestamp((subscription ->> 'canceled_at')::bigint);
  new.ended_at := to_timestamp((subscription ->> 'ended_at')::bigint);
  new.paused := jsonb_typeof(subscription -> 'pause_collection') = 'object' or new.stripe_status = 'paused';
  new.latest_invoice_id := credits.stripe_id(subscription -> 'latest_invoice');

  perform credits.lock_account(account);
  perform credits.open_subscription(account, new.id, new.plan);
  select * into old from public.subscriptions as s where s.account_id = account and s.id = new.id;
  new.plan := coalesce(new.plan, old.plan);
  new.account_id := old.account_id;
  new.status := old.status;
  new.refresh_wanted := old.refresh_wanted;
  new.created_at := old.created_at;
  new.updated_at := old.updated_at;
  old_rank := credits.subscription_rank(old);
  new_rank := credits.subscription_rank(new);
  if old_rank.ended or is_event and new_rank < old_rank then
    return 'unchanged'; -- deleted is final; an event of an earlier stage is old news
  elsif new = old and is_event then
    return 'unchanged';
  end if;

  perform credits.note_second_subscription(account, new.id)
  where new.stripe_status in ('trialing', 'active', 'past_due', 'unpaid', 'paused');
  -- Two contents of one stage: which is newer, only Stripe can say. An object that was just asked for is the answer.
  new.refresh_wanted := is_event and new_rank = old_rank;
  update public.subscriptions as s
  set
    plan = new.plan,
    quantity = new.quantity,
    stripe_status = new.stripe_status,
    current_period_start = new.current_period_start,
    current_period_end = new.current_period_end,
    trial_end = new.trial_end,
    cancel_at = new.cancel_at,
    canceled_at = new.canceled_at,
    ended_at = new.ended_at,
    paused = new.paused,
    latest_invoice_id = new.latest_invoice_id,
    refresh_wanted = new.refresh_wanted
  where s.account_id = account and s.id = new.id;
  perform credits.set_subscription_status(account, new.id);
  if new.ended_at is not null then
    -- Months that began since then, before this was told.
    for period in
      select a.purchase_id from credits.allotments as a
      where a.account_id = account and a.subscription_id = new.id and a.months is not null
      order by a.purchase_id
    loop
      perform credits.claw_back_share(account, period);
    end loop;
    perform credits.collect_subscription_debts(account);
  end if;
  return case when new is distinct from old then 'changed' else 'unchanged' end;
end
$$;

comment on function credits.apply_subscription(jsonb, boolean) is
'Notes what a subscription is now, told by an event or just asked for. Which of two contents is newer is told by '
'themselves: ended is final, later periods win, incomplete comes first; where they do not tell, refresh_wanted is set. '
'Grants nothing, and takes only months that began after the end. Returns changed, unchanged or ignored.';

-- sql/payments/events/balance_figures.sql
create function credits.balance_figures(
  transaction jsonb,
  out amount bigint,
  out fee bigint,
  out currency text,
  out exchange_rate numeric,
  out booked_at timestamptz
)
language sql
immutable
set search_path = ''
as $$
  select
    (transaction ->> 'amount')::bigint,
    (transaction ->> 'fee')::bigint,
    transaction ->> 'currency',
    (transaction ->> 'exchange_rate')::numeric,
    to_timestamp((transaction ->> 'created')::bigint)
  where jsonb_typeof(transaction) = 'object';
$$;

comment on function credits.balance_figures(jsonb) is
'What a balance transaction of Stripe''s says, as credits.stripe_balance_transactions has it; nulls for its id alone.';

-- sql/payments/events/is_live.sql
create function credits.is_live(subscription public.subscriptions) returns boolean
language sql
stable
set search_path = ''
as $$
  select
    subscription.status in ('trialing', 'active', 'past_due', 'unpaid', 'paused')
    -- Paid before anything else of it was told.
    or subscription.status = 'incomplete' and exists (
      select from public.purchases as p
      where p.account_id = subscription.account_id and p.subscription_id = subscription.id and p.status = 'paid'
    );
$$;

comment on function credits.is_live(public.subscriptions) is
'Whether a subscription has begun and not ended, as far as is known: an account may have one such.';

-- sql/payments/events/link_customer.sql
create function credits.link_customer(account_id uuid, customer_id text) returns text
language plpgsql
set search_path = ''
as $$
begin
  insert into credits.stripe_customers (customer_id, account_id) values (link_customer.customer_id, link_customer.account_id)
  on conflict do nothing;
  return (select c.customer_id from credits.stripe_customers as c where c.account_id = link_customer.account_id);
end
$$;

comment on function credits.link_customer(uuid, text) is
'Remembers the Stripe customer of an account; returns the one that is remembered: the first stays. Null for a customer '
'that is deleted or is another account''s.';

-- sql/payments/events/link_payment.sql
create function credits.link_payment(account_id uuid, purchase_id bigint, payment_intent_id text) returns void
language plpgsql
set search_path = ''
as $$
declare
  paid credits.stripe_payments;
begin
  insert into credits.stripe_payments as p (payment_intent_id, account_id, purchase_id)
  values (link_payment.payment_intent_id, link_payment.account_id, link_payment.purchase_id)
  on conflict on constraint stripe_payments_pkey do update set
    account_id = coalesce(p.account_id, excluded.account_id),
    purchase_id = coalesce(p.purchase_id, excluded.purchase_id)
  returning * into paid;
  if (paid.account_id, paid.purchase_id) <> (link_payment.account_id, link_payment.purchase_id) then
    perform credits.fail(
      'PT422', 'The payment has paid another purchase already.',
      jsonb_build_object('payment_intent', link_payment.payment_intent_id), 'Dismiss one of them.'
    );
  end if;
end
$$;

comment on function credits.link_payment(uuid, bigint, text) is
'Notes which purchase a payment intent pays. PT422 if it is another''s. The caller holds the payment''s lock.';

-- sql/payments/events/lock_stripe_object.sql
create function credits.lock_stripe_object(id text) returns void
language plpgsql
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  perform pg_advisory_xact_lock(hashtextextended(id, 0));
end
$$;

comment on function credits.lock_stripe_object(text) is
'Until the transaction ends, one session at a time deals with this Stripe object: a refund and its purchase, told at '
'once by two messages, each see what the other wrote. Taken in the order event, invoice or session, payment intent; '
'the account''s lock comes last.';

-- sql/payments/events/note_balance_transaction.sql
create function credits.note_balance_transaction(
  transaction jsonb,
  payment_intent_id text,
  source_id text,
  movement credits.money_movement
) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  if credits.stripe_id(transaction) is null then
    return false; -- not booked yet
  end if;
  begin
    insert into credits.stripe_balance_transactions as b (
      id, payment_intent_id, source_id, movement, amount, fee, currency, exchange_rate, booked_at
    )
    select
      credits.stripe_id(transaction), note_balance_transaction.payment_intent_id, note_balance_transaction.source_id,
      note_balance_transaction.movement, t.amount, t.fee, t.currency, t.exchange_rate, t.booked_at
    from credits.balance_figures(transaction) as t
    on conflict (id) do update set
      amount = excluded.amount,
      fee = excluded.fee,
      currency = excluded.currency,
      exchange_rate = excluded.exchange_rate,
      booked_at = excluded.booked_at
    where b.amount is null and excluded.amount is not null;
    return found;
  exception
    when data_exception or integrity_constraint_violation then
      if jsonb_typeof(transaction) <> 'object' then
        raise;
      end if;
      -- Figures that we cannot store must not stop the dispute or the refund that carries them.
      return credits.note_balance_transaction(
        to_jsonb(credits.stripe_id(transaction)), payment_intent_id, source_id, movement
      );
  end;
end
$$;

comment on function credits.note_balance_transaction(jsonb, text, text, credits.money_movement) is
'Notes that a charge, refund or dispute (source_id) of a payment names a balance transaction: its id, or the object '
'where Stripe shows it whole, or JSON null for none yet. Of one whose figures cannot be stored it keeps the id. '
'Returns whether that was news.';

-- sql/payments/events/open_subscription.sql
create function credits.open_subscription(account_id uuid, subscription_id text, plan text default null) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  insert into public.subscriptions (account_id, id, plan)
  values (open_subscription.account_id, open_subscription.subscription_id, open_subscription.plan)
  on conflict on constraint subscriptions_pkey do nothing;
  if not found then
    return false;
  end if;
  insert into credits.stripe_objects (id, account_id)
  values (open_subscription.subscription_id, open_subscription.account_id)
  on conflict (id) do nothing;
  if not found then
    perform credits.fail(
      'PT422', 'The subscription is another account''s.',
      jsonb_build_object('subscription', subscription_id, 'account_id', account_id),
      'It stays with the account that it was first told for. Dismiss this, or move what it paid for by hand.'
    );
  end if;
  return true;
end
$$;

comment on function credits.open_subscription(uuid, text, text) is
'Makes the row of a subscription, if there is none yet; returns whether there was none. PT422 for one that is another '
'account''s. The caller holds the account''s lock.';

-- sql/payments/events/paying_account.sql
create function credits.paying_account(customer_id text, account_id text) returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  account uuid;
begin
  if account_id is null then
    select c.account_id into account from credits.stripe_customers as c where c.customer_id = paying_account.customer_id;
  else
    select a.id into account from public.credit_accounts as a where a.id = paying_account.account_id::uuid;
    if not found then
      perform credits.fail(
        'PT422', 'metadata.account_id names no account of this project.', jsonb_build_object('account_id', account_id),
        'Does another project share this Stripe account?'
      );
    end if;
  end if;
  return account;
end
$$;

comment on function credits.paying_account(text, text) is
'The account that a Stripe object is paid for: the one in its metadata, else its customer''s; null when it is '
'nobody''s here. PT422 for an account_id that does not exist.';

-- sql/payments/events/stripe_id.sql
create function credits.stripe_id(reference jsonb) returns text
language sql
immutable
as $$
  select case jsonb_typeof(reference) when 'object' then reference ->> 'id' else reference #>> '{}' end;
$$;

comment on function credits.stripe_id(jsonb) is
'The id in a field that names another Stripe object: the field is the id, or the object itself where it was expanded.';

-- sql/payments/events/subscriber.sql
create function credits.subscriber(subscription_id text, customer jsonb, metadata jsonb) returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  account uuid;
begin
  -- Known once, known for good: also after its customer was deleted.
  select o.account_id into account from credits.stripe_objects as o where o.id = subscription_id;
  return coalesce(account, credits.paying_account(credits.stripe_id(customer), metadata ->> 'account_id'));
end
$$;

comment on function credits.subscriber(text, jsonb, jsonb) is
'The account of a subscription: as known before, else by its metadata, else by its customer; null when it is nobody''s '
'here. PT422 for an account_id that does not exist.';

-- sql/payments/events/sweep_stripe_payloads.sql
create function credits.sweep_stripe_payloads(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  -- A variable, so that the index finds what is older.
  before timestamptz := credits.now() - (select s.stripe_payload_retention from credits.billing_settings as s);
  forgotten integer;
begin
  update credits.stripe_events as e set payload = null
  where e.id in (
    select o.id from credits.stripe_events as o
    where o.payload is not null and o.received_at < before
    order by o.received_at
    limit batch
    for update skip locked
  );
  get diagnostics forgotten = row_count;
  return forgotten;
end
$$;

comment on function credits.sweep_stripe_payloads(integer) is
'Empties the payloads of up to batch events that came billing_settings.stripe_payload_retention ago; returns how '
'many. What is quarantined or failed until then is given up. Their ids stay, so that they are still known when they '
'come again.';

-- sql/payments/events/sweep_unclaimed_payments.sql
create function credits.sweep_unclaimed_payments(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  -- Variables, so that the indexes find what is older.
  before timestamptz := credits.now() - credits.unclaimed_retention();
  ignored_before timestamptz := credits.now() - (select s.stripe_payload_retention from credits.billing_settings as s);
  payment text;
  part integer;
  forgotten integer := 0;
begin
  for payment in
    select p.payment_intent_id from credits.stripe_payments as p
    where p.purchase_id is null and p.received_at < before
    order by p.received_at
    limit batch
  loop
    -- Whoever deals with it now may be about to find its purchase; and is not waited for.
    continue when not pg_try_advisory_xact_lock(hashtextextended(payment, 0));
    delete from credits.stripe_payments as p where p.payment_intent_id = payment and p.purchase_id is null;
    continue when not found;
    delete from credits.stripe_refunds as r where r.payment_intent_id = payment;
    delete from credits.stripe_disputes as d where d.payment_intent_id = payment;
    delete from credits.stripe_fraud_warnings as w where w.payment_intent_id = payment;
    delete from credits.stripe_balance_transactions as b where b.payment_intent_id = payment;
    forgotten := forgotten + 1;
  end loop;

  delete from credits.stripe_customers as c
  where c.customer_id in (
    select o.customer_id from credits.stripe_customers as o
    where o.deleted_at < before
    order by o.deleted_at
    limit batch
    for update skip locked
  );
  get diagnostics part = row_count;
  forgotten := forgotten + part;

  delete from credits.stripe_events as e
  where e.id in (
    select o.id from credits.stripe_events as o
    where o.status = 'ignored' and o.received_at < ignored_before
    order by o.received_at
    limit batch
    for update skip locked
  );
  get diagnostics part = row_count;
  return forgotten + part;
end
$$;

comment on function credits.sweep_unclaimed_payments(integer) is
'Forgets what turned out to be none of our business, up to batch of each kind, so that another app on the same Stripe '
'account fills no table: payments that no purchase has claimed for credits.unclaimed_retention, with their refunds, '
'disputes, warnings and fees; customers that were deleted so long ago; events that were ignored '
'billing_settings.stripe_payload_retention ago. Returns how many. What comes again is kept, or ignored, again.';

-- sql/payments/events/try_stripe_object.sql
create function credits.try_stripe_object(
  object jsonb,
  event_type text,
  out status text,
  out reason text
)
language plpgsql
set search_path = ''
as $$
declare
  its_column text;
  its_constraint text;
begin
  status := credits.apply_stripe_object(object, event_type);
  if status like 'ignored: %' then
    reason := substr(status, 10);
    status := 'ignored';
  end if;
exception
  when others then
    if sqlstate = 'PT422' then
      status := 'quarantined';
      reason := sqlerrm;
    elsif sqlstate like '22%' or sqlstate like '23%' then
      get stacked diagnostics its_column = column_name, its_constraint = constraint_name;
      status := 'quarantined';
      -- Not Postgres's own words, which quote what a customer sent.
      reason := concat_ws(' ', 'A field is missing or not as it should be:', sqlstate, its_column, its_constraint);
    elsif sqlstate like 'PT%' then
      status := 'failed';
      reason := sqlerrm;
    else
      -- A deadlock, a time-out, a bug: nothing is kept, and Stripe tries again.
      raise;
    end if;
end
$$;

comment on function credits.try_stripe_object(jsonb, text) is
'credits.apply_stripe_object, with its reason apart, and with a refusal as an answer: quarantined when the object '
'cannot be read, failed when a rule of the ledger refuses what it asks for; then nothing of it was done, and reason '
'says why.';

-- sql/payments/events/unclaimed_retention.sql
create function credits.unclaimed_retention() returns interval
language sql
immutable
as $$
  select interval '200 days';
$$;

comment on function credits.unclaimed_retention() is
'How long what Stripe tells of payments that nobody here has bought anything with is kept: their purchase may be told '
'of late, or never, where one Stripe account serves several apps. Longer than reconciliation looks back, 180 days for '
'disputes.';

-- sql/payments/netting/claw_back_share.sql
create function credits.claw_back_share(account_id uuid, purchase_id bigint) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  purchase public.purchases;
  refunded bigint;
  disputed bigint;
  gone bigint;
  target bigint;
  is_second boolean;
  lot record;
  figures jsonb;
  receipt text;
begin
  select * into purchase
  from public.purchases as p
  where p.account_id = claw_back_share.account_id and p.id = purchase_id;

  -- A refund that has failed does not count. What a charge tells beyond the refunds that we know, we have yet to hear
  -- of one by one.
  -- (By the purchase, not by an array of its payments: for that each call would be planned anew.)
  select coalesce(sum(r.live + greatest(0, r.told - r.known)), 0), min(r.receipt_url) into refunded, receipt
  from (
    select
      min(c.refunded) as told,
      min(c.receipt_url) as receipt_url,
      coalesce(sum(f.amount), 0) as known,
      coalesce(sum(f.amount) filter (where f.status not in ('failed', 'canceled')), 0) as live
    from credits.stripe_payments as c
    left join credits.stripe_refunds as f on c.payment_intent_id = f.payment_intent_id
    where c.account_id = purchase.account_id and c.purchase_id = purchase.id
    group by c.payment_intent_id
  ) as r;

  -- In another currency than the payment's the bank's figure says nothing of the share: the whole is disputed.
  select coalesce(sum(case when d.currency = purchase.currency then d.amount else purchase.amount end), 0) into disputed
  from credits.stripe_payments as c
  inner join credits.stripe_disputes as d on c.payment_intent_id = d.payment_intent_id
  where c.account_id = purchase.account_id and c.purchase_id = purchase.id and d.takes;

  -- Most purchases are of a package, and no money goes back: what follows would find nothing to take or to give.
  if purchase.subscription_id is null and refunded + disputed = 0 and purchase.credits_clawed_back = 0 then
    return credits.note_netting(purchase, 0, refunded, disputed, receipt);
  end if;

  -- What expired unused is not there to be taken a second time. Nor is what a downgrade took of a lot that has expired
  -- since: of one that is alive it is given back first.
  select coalesce(sum(case t.kind when 'expiry' then -t.amount else credits.left_to_refund(t) end), 0) into gone
  from credits.purchase_grants as g
  inner join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
  inner join public.credit_transactions as t on g.account_id = t.account_id and g.transaction_id = t.related_id
  left join credits.clawbacks as c on t.account_id = c.account_id and t.id = c.transaction_id
  where
    g.account_id = purchase.account_id
    and g.purchase_id = purchase.id
    and (t.kind = 'expiry' or c.cause = 'downgrade' and l.expires_at <= credits.now());

  is_second := purchase.subscription_id is not null
    and credits.is_second_subscription(purchase.account_id, purchase.subscription_id);
  target := case
    when is_second
      then greatest(purchase.credits_granted - gone, purchase.credits_clawed_back)
    when purchase.amount = 0 then 0
    else least(
      round(purchase.credits_granted::numeric * least(refunded + disputed, purchase.amount) / purchase.amount)::bigint,
      greatest(purchase.credits_granted - gone, purchase.credits_clawed_back)
    )
  end;
  figures := jsonb_build_object(
    'purchase', purchase.id, 'paid', purchase.amount, 'refunded', refunded, 'disputed', disputed,
    'currency', purchase.currency
  );
  if purchase.subscription_id is not null and exists (
    select from credits.allotments as a
    where a.account_id = purchase.account_id and a.purchase_id = purchase.id and a.months is not null
  ) then
    -- Month by month where it came so: what expired unused of one month stands for nothing in another.
    target := 0;
    for lot in
      select
        l.transaction_id,
        t.taken::bigint as taken,
        least(round(l.amount * s.share), greatest(l.amount - t.gone, t.taken))::bigint as target
      from credits.purchase_grants as g
      inner join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
      cross join lateral (
        select
          coalesce(sum(case r.kind when 'expiry' then -r.amount else credits.left_to_refund(r) end) filter (
            where r.kind = 'expiry' or c.cause = 'downgrade' and l.expires_at <= credits.now()
          ), 0) as gone,
          coalesce(sum(credits.left_to_refund(r)) filter (where c.cause = 'money_back'), 0) as taken
        from public.credit_transactions as r
        left join credits.clawbacks as c on r.account_id = c.account_id and r.id = c.transaction_id
        where r.account_id = l.account_id and r.related_id = l.transaction_id and r.kind in ('expiry', 'clawback')
      ) as t
      -- Each part goes with the money that paid for it; all of what began when the subscription had ended.
      cross join lateral (
        select case
          when is_second or exists (
            select from credits.allotments as a
            inner join public.subscriptions as e on a.account_id = e.account_id and a.subscription_id = e.id
            where
              a.account_id = g.account_id
              and a.purchase_id = g.purchase_id
              and a.key = g.allotment_key
              and e.ended_at <= (
                a.period_start at time zone 'UTC' + make_interval(months => g.month - 1)
              ) at time zone 'UTC'
          ) then 1
          else coalesce(
            (
              select
                sum(o.part * case
                  when o.purchase_id = purchase.id then own.share
                  else least(c.refunded_amount + c.disputed_amount, c.amount) / greatest(c.amount, 1)::numeric
                end) / sum(o.part)
              from credits.allotment_sources as o
              inner join public.purchases as c on o.account_id = c.account_id and o.purchase_id = c.id
              where o.account_id = g.account_id and o.transaction_id = g.transaction_id
            ),
            own.share
          )
        end as share
        from (
          select least(refunded + disputed, purchase.amount) / greatest(purchase.amount, 1)::numeric as share
        ) as own
      ) as s
      where g.account_id = purchase.account_id and g.purchase_id = purchase.id
      order by l.expires_at, l.id
    loop
      target := target + lot.target;
      if lot.target > lot.taken then
        perform credits.release_subscription_debts(purchase.account_id);
        perform credits.claw_back(
          purchase.account_id, lot.target - lot.taken, lot.transaction_id,
          metadata => figures,
          cause => 'money_back',
          purchase_id => purchase.id
        );
      elsif lot.target < lot.taken then
        perform credits.give_back_clawbacks(
          purchase.account_id, 'money_back', purchase.id, lot.taken - lot.target, figures, lot.transaction_id
        );
      end if;
    end loop;
  elsif target > purchase.credits_clawed_back then
    perform credits.release_subscription_debts(purchase.account_id);
    perform credits.take_from_purchase(
      purchase.account_id, purchase.id, target - purchase.credits_clawed_back, figures
    );
  elsif target < purchase.credits_clawed_back then
    perform credits.give_back_clawbacks(
      purchase.account_id, 'money_back', purchase.id, purchase.credits_clawed_back - target, figures
    );
  end if;

  return credits.note_netting(purchase, target, refunded, disputed, receipt);
end
$$;

comment on function credits.claw_back_share(uuid, bigint) is
'Holds a purchase against its refunds and disputes: takes back credits in proportion to the money, round(granted * '
'least(refunded + disputed, paid) / paid), or gives back what is too much; by the difference to what was taken so '
'far, so that it may be called at any time and any number of times; month by month where it came so. Never takes '
'what has expired; takes all of a second subscription''s. It comes before what downgrades take: '
'credits.collect_subscription_debts has to follow. Returns whether anything changed. The caller holds the locks of '
'its payments and of the account.';

-- sql/payments/netting/debt_takings.sql
create function credits.debt_takings(account_id uuid) returns table (
  debt_id bigint,
  grant_id bigint,
  taken bigint,
  is_final boolean
)
language sql
stable
set search_path = ''
as $$
  select
    c.purchase_id,
    t.related_id,
    sum(credits.left_to_refund(t))::bigint,
    coalesce(max(l.expires_at) <= credits.now(), false)
  from credits.clawbacks as c
  inner join public.credit_transactions as t on c.account_id = t.account_id and c.transaction_id = t.id
  inner join credits.credit_grants as l on t.account_id = l.account_id and t.related_id = l.transaction_id
  where c.account_id = debt_takings.account_id and c.cause = 'downgrade'
  group by 1, 2
  having sum(credits.left_to_refund(t)) > 0;
$$;

comment on function credits.debt_takings(uuid) is
'Credits that downgrades (debt_id: subscription_debts.purchase_id) have taken of an account''s grants (grant_id: the '
'grant''s ledger row) and not given back. is_final: the lot has expired since, so that they can no longer go back to '
'it.';

-- sql/payments/netting/end_late_grants.sql
create function credits.end_late_grants(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  lot record;
begin
  for lot in
    select l.id
    from credits.purchase_grants as g
    inner join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
    inner join public.purchases as p on g.account_id = p.account_id and g.purchase_id = p.id
    cross join credits.billing_settings as s
    where
      g.account_id = end_late_grants.account_id
      and g.is_late
      and l.remaining > 0
      and (
        s.late_grant_grace = '0'
        or exists (
          select from public.purchases as n
          where n.account_id = p.account_id and n.subscription_id = p.subscription_id and n.period_end > p.period_end
        )
      )
    order by l.id
  loop
    perform credits.end_lot(account_id, lot.id);
  end loop;
end
$$;

comment on function credits.end_late_grants(uuid) is
'Lets the credits expire that were granted after their period was over, unless it is the newest of its subscription: '
'so late messages leave what they would have left in time. Called after refunds and downgrades have taken their share. '
'The caller holds the account''s lock.';

-- sql/payments/netting/freeze_for_disputes.sql
create function credits.freeze_for_disputes(account_id uuid, purchase_id bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  purchase public.purchases;
  payments text[];
  is_new boolean;
begin
  select * into purchase
  from public.purchases as p
  where p.account_id = freeze_for_disputes.account_id and p.id = purchase_id;
  -- Most accounts have neither. And what they are frozen for then is no dispute of theirs: that stays.
  if
    not exists (select from credits.stripe_disputes as d where d.account_id = purchase.account_id)
    and not exists (
      select from credits.stripe_payments as c
      where
        c.account_id = purchase.account_id
        and c.purchase_id = purchase.id
        and (
          exists (select from credits.stripe_disputes as d where d.payment_intent_id = c.payment_intent_id)
          or exists (select from credits.stripe_fraud_warnings as w where w.payment_intent_id = c.payment_intent_id)
        )
    )
  then
    return;
  end if;
  payments := credits.purchase_payments(purchase);

  update credits.stripe_disputes as d set account_id = purchase.account_id
  where d.payment_intent_id = any(payments) and d.account_id is null;

  with new_disputes as (
    update credits.stripe_disputes as d set froze_at = credits.now()
    where d.account_id = purchase.account_id and d.standing and d.froze_at is null
    returning d.id
  )

  select exists(select from new_disputes) into is_new;

  if is_new then
    update public.credit_accounts as a
    set
      frozen_at = credits.now(),
      frozen_by = 'dispute',
      frozen_reason = 'A payment of this account is disputed.',
      updated_at = credits.now()
    where a.id = purchase.account_id and a.frozen_at is null;
    perform credits.pass_freeze(purchase.account_id);
  elsif not credits.is_disputed(purchase.account_id) then
    update public.credit_accounts as a
    set frozen_at = null, frozen_by = null, frozen_reason = null, updated_at = credits.now()
    where a.id = purchase.account_id and a.frozen_by = 'dispute';
    perform credits.pass_thaw(purchase.account_id);
  end if;

  with new_warnings as (
    update credits.stripe_fraud_warnings as w
    set account_id = purchase.account_id, froze_at = case when w.freezes then credits.now() end
    where w.payment_intent_id = any(payments) and w.account_id is null
    returning w.freezes
  )

  update public.credit_accounts as a
  set
    frozen_at = credits.now(),
    frozen_by = 'fraud_warning',
    frozen_reason = 'The issuer of a card that paid for this account warned of fraud.',
    updated_at = credits.now()
  where
    a.id = purchase.account_id
    -- What a dispute froze, it would unfreeze again once it is won.
    and (a.frozen_at is null or a.frozen_by = 'dispute')
    and exists (select from new_warnings as w where w.freezes);
  if found then
    perform credits.pass_freeze(purchase.account_id, 'dispute');
  end if;
end
$$;

comment on function credits.freeze_for_disputes(uuid, bigint) is
'Freezes the account of a purchase at each new dispute, and unfreezes it once none stands (see is_disputed), unless '
'something else froze it; so for the successor of a deleted user''s account. Freezes it at each new warning of fraud '
'that says so, until an operator unfreezes it. The caller holds the account''s lock.';

-- sql/payments/netting/give_back_clawbacks.sql
create function credits.give_back_clawbacks(
  account_id uuid,
  cause credits.clawback_cause,
  purchase_id bigint,
  amount bigint,
  metadata jsonb,
  grant_transaction_id bigint default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  still_to_give bigint := amount;
  taken record;
begin
  for taken in
    select t.id, credits.left_to_refund(t) as left_to_give
    from credits.clawbacks as c
    inner join public.credit_transactions as t on c.account_id = t.account_id and c.transaction_id = t.id
    where
      c.account_id = give_back_clawbacks.account_id
      and c.cause = give_back_clawbacks.cause
      and c.purchase_id = give_back_clawbacks.purchase_id
      and (grant_transaction_id is null or t.related_id = grant_transaction_id)
    order by t.id desc
  loop
    exit when still_to_give = 0;
    continue when taken.left_to_give = 0;
    perform credits.give_back(account_id, taken.id, least(still_to_give, taken.left_to_give), metadata);
    still_to_give := still_to_give - least(still_to_give, taken.left_to_give);
  end loop;
  if still_to_give > 0 then
    raise 'purchase % (%) has % credits fewer to give back than it says', purchase_id, cause, still_to_give;
  end if;
end
$$;

comment on function credits.give_back_clawbacks is
'Gives back amount credits of what was taken for that cause and purchase, the latest first; of one grant where '
'grant_transaction_id names it. The caller holds the account''s lock.';

-- sql/payments/netting/grant_purchase.sql
create function credits.grant_purchase(
  account_id uuid,
  purchase_id bigint,
  amount bigint,
  source public.grant_source,
  expires_at timestamptz,
  priority integer,
  key text,
  cost_basis bigint,
  allotment_key text default null,
  month integer default null
) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  purchase public.purchases;
  is_late boolean := coalesce(expires_at <= credits.now(), false);
  lives_until timestamptz := expires_at;
  entry public.credit_transactions;
begin
  select * into purchase
  from public.purchases as p
  where p.account_id = grant_purchase.account_id and p.id = purchase_id;
  if is_late then
    -- Its time is over: credits.end_late_grants may end it at once.
    select credits.now() + greatest(s.late_grant_grace, '1 minute') into lives_until from credits.billing_settings as s;
  end if;
  entry := credits.grant_to_account(
    purchase.account_id, amount, source, lives_until, priority, 'sys:stripe:' || key,
    jsonb_strip_nulls(
      jsonb_build_object(
        'purchase', purchase.id, 'package', purchase.package, 'plan', purchase.plan, 'subscription', purchase.subscription_id
      )
    ),
    case when cost_basis is not null then greatest(cost_basis, 0) end, case when cost_basis is not null then purchase.currency end
  );
  insert into credits.purchase_grants (account_id, purchase_id, transaction_id, allotment_key, month, is_late)
  values (
    purchase.account_id, purchase.id, entry.id, grant_purchase.allotment_key, grant_purchase.month,
    is_late
  );
  update public.purchases as p set credits_granted = p.credits_granted + grant_purchase.amount
  where p.account_id = purchase.account_id and p.id = purchase.id;
  return entry.id;
end
$$;

comment on function credits.grant_purchase is
'Grants credits for a paid purchase; returns the ledger row''s id. key: Stripe''s id of what is granted for; the '
'ledger takes each once. Those whose expires_at is past live for billing_settings.late_grant_grace and are noted as '
'late. cost_basis: what was paid for them without taxes, in minor units; null for unknown. allotment_key, month: of a '
'period that is granted month by month. The caller holds the account''s lock; credits.end_late_grants follows.';

-- sql/payments/netting/is_disputed.sql
create function credits.is_disputed(account_id uuid) returns boolean
language sql
stable
set search_path = ''
as $$
  with recursive line (id) as (
    select is_disputed.account_id
    union
    select d.account_id
    from line
    inner join credits.account_addresses as d on line.id = d.successor_id
  )

  select exists (
    select from line
    inner join credits.stripe_disputes as d on line.id = d.account_id
    where d.standing
  );
$$;

comment on function credits.is_disputed(uuid) is
'Whether a dispute stands of a payment of the account, or of one that it took over from, its user being deleted.';

-- sql/payments/netting/net_payment.sql
create function credits.net_payment(payment_intent_id text) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  purchase public.purchases;
  period bigint;
  changed boolean;
begin
  select p.* into purchase
  from credits.stripe_payments as s
  inner join public.purchases as p on s.account_id = p.account_id and s.purchase_id = p.id
  where s.payment_intent_id = net_payment.payment_intent_id;
  if not found then
    return false; -- kept until its purchase comes
  end if;
  perform credits.lock_account(purchase.account_id);
  changed := credits.claw_back_share(purchase.account_id, purchase.id);
  -- Money that came back lets the months go on; that of a change goes with what it added to them.
  for period in
    select distinct m.purchase_id
    from credits.allotments as a
    inner join credits.allotments as m
      on a.account_id = m.account_id and a.subscription_id = m.subscription_id and a.period_end = m.period_end
    where a.account_id = purchase.account_id and a.purchase_id = purchase.id and m.months is not null
  loop
    update credits.allotments as a set next_at = a.period_start
    where a.account_id = purchase.account_id and a.purchase_id = period and a.months is not null;
    perform credits.grant_allotments(purchase.account_id, period);
    changed := credits.claw_back_share(purchase.account_id, period) or changed;
  end loop;
  perform credits.collect_subscription_debts(purchase.account_id);
  perform credits.end_late_grants(purchase.account_id);
  perform credits.freeze_for_disputes(purchase.account_id, purchase.id);
  return changed;
end
$$;

comment on function credits.net_payment(text) is
'Holds the purchase that a payment intent pays, if it is known, against its refunds and disputes. Returns whether '
'anything changed. The caller holds the payment''s lock.';

-- sql/payments/netting/next_purchase.sql
create function credits.next_purchase(account_id uuid) returns bigint
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return (
    select coalesce(max(p.id), 0) + 1 from public.purchases as p where p.account_id = next_purchase.account_id
  );
end
$$;

comment on function credits.next_purchase(uuid) is
'The number of the account''s next purchase. The caller holds the account''s lock.';

-- sql/payments/netting/note_netting.sql
create function credits.note_netting(
  purchase public.purchases,
  clawed_back bigint,
  refunded bigint,
  disputed bigint,
  receipt text
) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  if
    (purchase.credits_clawed_back, purchase.refunded_amount, purchase.disputed_amount, purchase.receipt_url)
    is not distinct from (clawed_back, refunded, disputed, receipt)
  then
    return false;
  end if;
  update public.purchases as p
  set
    credits_clawed_back = clawed_back,
    refunded_amount = refunded,
    disputed_amount = disputed,
    receipt_url = receipt,
    updated_at = credits.now()
  where p.account_id = purchase.account_id and p.id = purchase.id;
  return true;
end
$$;

comment on function credits.note_netting(public.purchases, bigint, bigint, bigint, text) is
'Last part of credits.claw_back_share: notes on a purchase what went back, in credits and in minor units; returns '
'whether that was news.';

-- sql/payments/netting/purchase_payments.sql
create function credits.purchase_payments(purchase public.purchases) returns text[]
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return array(
    select s.payment_intent_id from credits.stripe_payments as s
    where s.account_id = purchase.account_id and s.purchase_id = purchase.id
    order by 1
  );
end
$$;

comment on function credits.purchase_payments(public.purchases) is
'The payment intents that paid a purchase, in order: one for a session; as many as Stripe tells for an invoice.';

-- sql/payments/netting/take_from_purchase.sql
create function credits.take_from_purchase(
  account_id uuid,
  purchase_id bigint,
  amount bigint,
  metadata jsonb
) returns void
language plpgsql
set search_path = ''
as $$
declare
  still_to_take bigint := amount;
  lot record;
  part bigint;
begin
  for lot in
    select
      g.transaction_id,
      coalesce(sum(l.remaining), 0) as remaining,
      row_number() over (order by max(l.expires_at) desc nulls first, g.transaction_id) = 1 as is_last
    from credits.purchase_grants as g
    left join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
    where g.account_id = take_from_purchase.account_id and g.purchase_id = take_from_purchase.purchase_id
    group by g.transaction_id
    order by max(l.expires_at) nulls last, g.transaction_id desc
  loop
    part := case when lot.is_last then still_to_take else least(still_to_take, lot.remaining) end;
    if part > 0 then
      perform credits.claw_back(
        account_id, part, lot.transaction_id,
        metadata => metadata,
        cause => 'money_back',
        purchase_id => purchase_id
      );
      still_to_take := still_to_take - part;
    end if;
  end loop;
end
$$;

comment on function credits.take_from_purchase(uuid, bigint, bigint, jsonb) is
'Claws back amount credits, from what expires first of a purchase''s grants; what is no longer in their lots, from the '
'account''s other credits and below zero. The caller holds the account''s lock.';

-- sql/payments/rpc/claim_second_subscription.sql
create function public.claim_second_subscription(
  account_id uuid,
  subscription_id text,
  release boolean default false
) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
  update credits.second_subscriptions as s
  set claimed_until = case when not release then credits.now() + interval '1 minute' end
  where
    s.account_id = claim_second_subscription.account_id
    and s.subscription_id = claim_second_subscription.subscription_id
    and (release or s.claimed_until is null or s.claimed_until < credits.now());
  return found;
end
$$;

comment on function public.claim_second_subscription(uuid, text, boolean) is
'For the functions: whether the caller may deal with a second subscription now, for a minute; release ends that. '
'Several messages tell of it at once, and one call is enough.';

grant execute on function public.claim_second_subscription(uuid, text, boolean) to service_role;

-- sql/payments/rpc/close_checkout.sql
create function public.close_checkout(account_id uuid, session_id text) returns void
language sql
security definer
set search_path = ''
as $$
  update credits.plan_checkouts as c set closed_at = credits.now()
  where c.account_id = close_checkout.account_id and c.session_id = close_checkout.session_id and c.closed_at is null;
$$;

comment on function public.close_checkout(uuid, text) is
'For the function checkout: notes that a session for a plan can no longer be paid. Harmless to repeat.';

grant execute on function public.close_checkout(uuid, text) to service_role;

-- sql/payments/rpc/close_second_subscription.sql
create function public.close_second_subscription(
  account_id uuid,
  subscription_id text,
  outcome text,
  note text default null
) returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  purchase bigint;
  payment text;
begin
  if outcome is null or outcome not in ('refunded', 'kept', 'dismissed') then
    perform credits.fail('PT400', 'outcome is refunded, kept or dismissed.', '{}', 'Send one of them.');
  elsif char_length(btrim(note)) not between 1 and 1000 or (outcome = 'dismissed' and note is null) then
    perform credits.fail(
      'PT400', 'note must have 1 to 1000 characters.', '{}', 'Say how it was settled, or leave it out if nobody did.'
    );
  end if;
  if not exists (
    select from credits.second_subscriptions as s
    where
      s.account_id = close_second_subscription.account_id
      and s.subscription_id = close_second_subscription.subscription_id
  ) then
    perform credits.fail(
      'PT404', 'That is no second subscription of the account.',
      jsonb_build_object('account_id', account_id, 'subscription_id', left(subscription_id, 300)),
      'list_second_subscriptions lists them.'
    );
  end if;
  for payment in
    select s.payment_intent_id
    from public.purchases as p
    cross join lateral unnest(credits.purchase_payments(p)) as s (payment_intent_id)
    where
      p.account_id = close_second_subscription.account_id
      and p.subscription_id = close_second_subscription.subscription_id
    order by 1
  loop
    perform credits.lock_stripe_object(payment);
  end loop;
  perform credits.lock_account(account_id);
  update credits.second_subscriptions as s
  set outcome = close_second_subscription.outcome, note = btrim(close_second_subscription.note), closed_at = credits.now()
  where
    s.account_id = close_second_subscription.account_id
    and s.subscription_id = close_second_subscription.subscription_id
    and s.closed_at is null;
  if found and outcome = 'kept' then
    for purchase in
      select p.id from public.purchases as p
      where
        p.account_id = close_second_subscription.account_id
        and p.subscription_id = close_second_subscription.subscription_id
      order by p.id
    loop
      perform credits.claw_back_share(account_id, purchase);
    end loop;
    perform credits.collect_subscription_debts(account_id);
    perform credits.end_late_grants(account_id);
  end if;
end
$$;

comment on function public.close_second_subscription(uuid, text, text, text) is
'Operator: notes what became of a second subscription; what is closed stays as it is. outcome: refunded; kept, which '
'gives it its credits; dismissed, which needs a note. Errors: PT400 outcome or note, PT404 no second subscription.';

grant execute on function public.close_second_subscription(uuid, text, text, text) to service_role;

-- sql/payments/rpc/dismiss_stripe_event.sql
create function public.dismiss_stripe_event(event_id text, why text) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  event credits.stripe_events;
begin
  if not coalesce(char_length(btrim(why)) between 1 and 1000, false) then
    perform credits.fail(
      'PT400', 'why must have 1 to 1000 characters.', '{}', 'Say why the event shall have no effect.'
    );
  end if;
  perform credits.lock_stripe_object(event_id);
  select * into event from credits.stripe_events as e where e.id = event_id;
  if event.id is null then
    perform credits.fail(
      'PT404', 'There is no such event.', jsonb_build_object('event_id', left(event_id, 300)),
      'stripe_problems lists what can be dismissed.'
    );
  elsif event.status in ('applied', 'ignored') then
    perform credits.fail(
      'PT409', format('The event is %s: there is nothing to dismiss.', event.status),
      jsonb_build_object('event_id', event_id, 'status', event.status), 'stripe_problems lists what can be dismissed.'
    );
  elsif event.status <> 'dismissed' then
    update credits.stripe_events as e
    set status = 'dismissed', dismissed_why = btrim(why), dismissed_at = credits.now()
    where e.id = event_id
    returning * into event;
    -- Reconciliation, which reads objects, does not report it again.
    insert into credits.dismissed_stripe_objects (object_id, why, dismissed_at)
    select o.id, event.dismissed_why, event.dismissed_at
    from (select event.payload #>> '{data,object,id}' as id) as o
    where char_length(o.id) between 1 and 255
    on conflict on constraint dismissed_stripe_objects_pkey do nothing;
  end if;
  return jsonb_build_object(
    'id', event.id,
    'type', event.type,
    'status', event.status,
    'reason', event.reason,
    'why', event.dismissed_why,
    'dismissed_at', event.dismissed_at
  );
end
$$;

comment on function public.dismiss_stripe_event(text, text) is
'Operator: decides that an event that is quarantined or failed shall have no effect: it is not tried again, and not '
'taken when it comes again; its object is dismissed with it (see dismiss_stripe_object). What other messages tell of '
'the object counts. Returns {id, type, status, reason, why, dismissed_at}; for one that is dismissed already what was '
'said first. Errors: PT400 why, PT404 no such event, PT409 it is applied or ignored.';

grant execute on function public.dismiss_stripe_event(text, text) to service_role;

-- sql/payments/rpc/dismiss_stripe_object.sql
create function public.dismiss_stripe_object(object_id text, why text) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  noted credits.dismissed_stripe_objects;
begin
  if coalesce(object_id, '') !~ '^[a-z]+_[A-Za-z0-9_]{1,200}$' or object_id like 'evt\_%' then
    perform credits.fail(
      'PT400', 'object_id must be the id of a Stripe object.', jsonb_build_object('object_id', left(object_id, 100)),
      'Events have dismiss_stripe_event.'
    );
  elsif not coalesce(char_length(btrim(why)) between 1 and 1000, false) then
    perform credits.fail(
      'PT400', 'why must have 1 to 1000 characters.', '{}', 'Say why the object shall have no effect.'
    );
  end if;
  insert into credits.dismissed_stripe_objects (object_id, why, dismissed_at)
  values (dismiss_stripe_object.object_id, btrim(dismiss_stripe_object.why), credits.now())
  on conflict on constraint dismissed_stripe_objects_pkey do nothing;
  select * into noted
  from credits.dismissed_stripe_objects as d
  where d.object_id = dismiss_stripe_object.object_id;
  return jsonb_build_object('id', noted.object_id, 'why', noted.why, 'dismissed_at', noted.dismissed_at);
end
$$;

comment on function public.dismiss_stripe_object(text, text) is
'Operator: an object that reconciliation finds and cannot apply is no problem any more. What of it can be applied '
'later still is. Returns {id, why, dismissed_at}; for one that is dismissed already what was said first. PT400 for '
'object_id or why.';

grant execute on function public.dismiss_stripe_object(text, text) to service_role;

-- sql/payments/rpc/ingest_stripe_event.sql
create function credits.ingest_stripe_event(event jsonb) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  event_id text := event ->> 'id';
  object jsonb := event #> '{data,object}';
  settings credits.billing_settings;
  known credits.stripe_event_status;
  kind text := object ->> 'object';
  outcome record;
  result credits.stripe_event_status;
  refresh text;
  second text;
begin
  if
    jsonb_typeof(event) is distinct from 'object'
    or event ->> 'object' is distinct from 'event'
    or coalesce(event_id, '') !~ '^evt_[A-Za-z0-9_]{1,200}$'
    or jsonb_typeof(event -> 'type') is distinct from 'string'
    or jsonb_typeof(event -> 'livemode') is distinct from 'boolean'
    or jsonb_typeof(object) is distinct from 'object'
  then
    perform credits.fail(
      'PT400', 'This is not a Stripe event.', '{}', 'Send the body of a webhook request as it came.'
    );
  end if;

  perform credits.lock_stripe_object(event_id);
  select e.status into known from credits.stripe_events as e where e.id = event_id;
  if known in ('applied', 'ignored', 'dismissed') then
    return jsonb_build_object('status', 'duplicate', 'reason', null, 'refresh', null, 'second', null);
  end if;

  select * into settings from credits.billing_settings;
  if (event ->> 'livemode')::boolean <> settings.stripe_livemode then
    select 'quarantined' as status, case
      when settings.stripe_livemode then 'A test event, and billing_settings.stripe_livemode is true.'
      else 'A live event, and billing_settings.stripe_livemode is false.'
    end as reason into outcome;
  elsif event ->> 'account' is distinct from settings.stripe_account then
    select 'quarantined' as status, 'From another account than billing_settings.stripe_account.' as reason into outcome;
  elsif coalesce(event ->> 'api_version', '') !~ '^20[0-9]{2}-[0-9]{2}-[0-9]{2}' or event ->> 'api_version' < '2025-03-31' then
    select
      'quarantined' as status,
      'Written in an API version before 2025-03-31; give the webhook endpoint a newer one.' as reason
    into outcome;
  else
    outcome := credits.try_stripe_object(object, event ->> 'type');
  end if;

  result := (
    case when outcome.status in ('changed', 'unchanged') then 'applied' else outcome.status end
  )::credits.stripe_event_status;
  if known is null then
    insert into credits.stripe_events (id, type, api_version, status, reason, payload)
    values (
      event_id, event ->> 'type', event ->> 'api_version', result, outcome.reason,
      -- Most of another app's on the same Stripe account; nobody reads it again.
      case when result <> 'ignored' then event end
    );
  else
    update credits.stripe_events as e
    set
      status = result,
      reason = outcome.reason,
      payload = case when result <> 'ignored' then event end,
      attempts = e.attempts + 1,
      processed_at = credits.now()
    where e.id = event_id;
  end if;
  -- Asked only where it may be so: in one expression, all of it would be planned anew for every event.
  if kind = 'subscription' then
    select s.id into refresh
    from credits.stripe_objects as o
    inner join public.subscriptions as s on o.account_id = s.account_id and o.id = s.id
    where o.id = object ->> 'id' and s.refresh_wanted;
  elsif kind = 'invoice' and result = 'quarantined' and object #> '{lines,has_more}' = 'true' then
    refresh := object ->> 'id';
  end if;
  if kind in ('subscription', 'invoice') then
    select s.subscription_id into second
    from credits.stripe_objects as o
    inner join credits.second_subscriptions as s on o.account_id = s.account_id and o.id = s.subscription_id
    where
      o.id = coalesce(credits.stripe_id(object #> '{parent,subscription_details,subscription}'), object ->> 'id')
      and (s.outcome is null or s.outcome = 'refunded');
  end if;
  return jsonb_build_object('status', result, 'reason', outcome.reason, 'refresh', refresh, 'second', second);
end
$$;

comment on function credits.ingest_stripe_event(jsonb) is
'Stores a verified Stripe event and its effects in one transaction, once: returns {status, reason, refresh, second}. '
'status is applied, ignored, duplicate, quarantined or failed; refresh names a subscription or an invoice that has to '
'be asked for, second a subscription that came second and has to be cancelled. An event that was quarantined or '
'failed is tried again when it comes again. PT400 for what is no event.';

create function public.ingest_stripe_event(jsonb) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return credits.ingest_stripe_event($1);
end
$$;

comment on function public.ingest_stripe_event(jsonb) is
'For the function stripe-webhook: credits.ingest_stripe_event. The event is the whole body of the request.';

grant execute on function public.ingest_stripe_event(jsonb) to service_role;

-- sql/payments/rpc/ingest_stripe_object.sql
create function public.ingest_stripe_object(object jsonb) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  settings credits.billing_settings;
  outcome record;
  known text;
begin
  select * into settings from credits.billing_settings;
  if jsonb_typeof(object) is distinct from 'object' or jsonb_typeof(object -> 'id') is distinct from 'string' then
    perform credits.fail('PT400', 'This is not a Stripe object.', '{}', 'Send an object as Stripe''s API returns it.');
  elsif object -> 'livemode' <> to_jsonb(settings.stripe_livemode) then
    return jsonb_build_object(
      'status', 'quarantined', 'reason', 'Its livemode is not that of billing_settings.stripe_livemode.'
    );
  end if;
  select t.status, t.reason into outcome from credits.try_stripe_object(object, null) as t;
  if outcome.status in ('quarantined', 'failed') then
    select d.why into known from credits.dismissed_stripe_objects as d where d.object_id = object ->> 'id';
    if found then
      return jsonb_build_object('status', 'ignored', 'reason', 'It was dismissed: ' || known);
    end if;
  end if;
  return jsonb_build_object('status', outcome.status, 'reason', outcome.reason);
end
$$;

comment on function public.ingest_stripe_object(jsonb) is
'For reconciliation: the effects of an object as Stripe''s API returns it now (checkout.session, invoice, '
'invoice_payment, subscription, refund, charge, dispute, balance_transaction, radar.early_fraud_warning, customer). '
'Returns {status, reason}: changed when a message had been missed, unchanged, ignored, quarantined or failed; ignored '
'also for what cannot be applied and was dismissed. PT400 for what is no object.';

grant execute on function public.ingest_stripe_object(jsonb) to service_role;

-- sql/payments/rpc/link_stripe_customer.sql
create function public.link_stripe_customer(
  account_id uuid,
  customer_id text,
  email text default null
) returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
  remembered text;
begin
  if not exists (select from public.credit_accounts as a where a.id = account_id) then
    perform credits.fail(
      'PT404', 'There is no such account.', jsonb_build_object('account_id', account_id), 'Check the account id.'
    );
  elsif customer_id is null or customer_id !~ '^cus_[A-Za-z0-9_]+$' then
    perform credits.fail('PT400', 'customer_id must be a Stripe customer''s id.', '{}', 'It starts with cus_.');
  end if;
  remembered := credits.link_customer(account_id, customer_id);
  if remembered is null then
    perform credits.fail(
      'PT409', 'The customer was deleted, or is another account''s.', jsonb_build_object('customer_id', customer_id),
      'Make a new customer.'
    );
  end if;
  update credits.stripe_customers as c set email_hash = sha256(convert_to(email, 'UTF8'))
  where c.customer_id = link_stripe_customer.customer_id and c.customer_id = remembered and email is not null;
  return remembered;
end
$$;

comment on function public.link_stripe_customer(uuid, text, text) is
'Operator: remembers the Stripe customer that pays for an account; returns the one that is remembered: the first '
'stays. email: the address that Stripe has of the customer, where known; a hash of it is kept. Errors: PT400 '
'customer_id, PT404 no such account, PT409 the customer is another account''s or deleted.';

grant execute on function public.link_stripe_customer(uuid, text, text) to service_role;

-- sql/payments/rpc/list_second_subscriptions.sql
create function public.list_second_subscriptions(open_only boolean default false) returns table (
  subscription_id text,
  first_id text,
  account_id uuid,
  user_id uuid,
  plan text,
  status text,
  paid bigint,
  refunded bigint,
  currency text,
  noticed_at timestamptz,
  refund_at_once boolean,
  outcome text,
  note text,
  closed_at timestamptz
)
language sql
stable
security definer
set search_path = ''
as $$
  select
    o.subscription_id, o.first_id, o.account_id, a.user_id, s.plan, s.status, coalesce(p.paid, 0),
    coalesce(p.refunded, 0), p.currency, o.noticed_at, b.refund_second_subscriptions, o.outcome, o.note, o.closed_at
  from credits.second_subscriptions as o
  inner join public.subscriptions as s on o.account_id = s.account_id and o.subscription_id = s.id
  inner join public.credit_accounts as a on o.account_id = a.id
  cross join credits.billing_settings as b
  left join lateral (
    select
      sum(p.amount)::bigint as paid,
      sum(least(p.refunded_amount + p.disputed_amount, p.amount))::bigint as refunded,
      min(p.currency) as currency
    from public.purchases as p
    where p.account_id = o.account_id and p.subscription_id = o.subscription_id and p.status = 'paid'
  ) as p on true
  where
    not open_only
    or o.closed_at is null
    -- Paid after all, or the refund has failed.
    or o.outcome = 'refunded' and p.paid > p.refunded
  order by o.closed_at desc nulls first, o.noticed_at, o.subscription_id;
$$;

comment on function public.list_second_subscriptions(boolean) is
'Operator: subscriptions that were paid while the account had one already, those that are to be dealt with first: what '
'was paid and refunded (or disputed) in minor units of currency, and what became of it (outcome: refunded, kept, '
'dismissed). open_only: only what is to be dealt with.';

grant execute on function public.list_second_subscriptions(boolean) to service_role;

-- sql/payments/rpc/my_stripe_customer.sql
create function public.my_stripe_customer() returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  customer text;
begin
  select c.customer_id into customer
  from credits.stripe_customers as c
  where c.account_id = credits.account_of(me);
  if not found then
    perform credits.fail('PT404', 'You have not bought anything yet.', '{}', 'Buy a package or subscribe first.');
  end if;
  return customer;
end
$$;

comment on function public.my_stripe_customer() is
'The signed-in user''s Stripe customer id, for the billing portal. Errors: PT403 not signed in, PT404 none yet.';

grant execute on function public.my_stripe_customer() to authenticated;

-- sql/payments/rpc/note_stripe_price.sql
create function public.note_stripe_price(price_id text, price jsonb default null) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
begin
  if coalesce(price_id, '') !~ '^price_[A-Za-z0-9_]{1,200}$' then
    perform credits.fail('PT400', 'price_id must be a Stripe Price''s id.', '{}', 'It starts with price_.');
  elsif jsonb_typeof(price) <> 'null' and price ->> 'id' is distinct from price_id then
    perform credits.fail('PT400', 'price must be the Stripe Price of that id.', '{}', 'Send it as Stripe returns it.');
  end if;
  insert into credits.stripe_prices as s (id, price, checked_at)
  values (price_id, nullif(price, 'null'), credits.now())
  on conflict (id) do update set price = excluded.price, checked_at = excluded.checked_at;
  return (
    select coalesce(
      jsonb_agg(
        jsonb_build_object('kind', r.kind, 'slug', r.slug, 'currency', r.currency, 'differences', r.differences)
        order by r.kind, r.slug
      ),
      '[]'
    )
    from credits.priced_rows as r
    where r.stripe_price_id = price_id and r.differences <> '{}'
  );
end
$$;

comment on function public.note_stripe_price(text, jsonb) is
'For checkout and reconciliation: notes a Price as Stripe returns it now, null when Stripe has none of that id. '
'Returns the rows that it differs from: [{kind, slug, currency, differences}], the differences as sentences. PT400 '
'for what is no Price.';

grant execute on function public.note_stripe_price(text, jsonb) to service_role;

-- sql/payments/rpc/prepare_checkout.sql
create function public.prepare_checkout(
  package text default null,
  plan text default null,
  quantity integer default 1,
  currency text default null
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  account uuid := credits.open_account(me);
  frozen timestamptz := (select a.frozen_at from public.credit_accounts as a where a.id = account);
  settings credits.billing_settings;
  wanted text;
  sold public.credit_packages;
  offered public.subscription_plans;
  allotment bigint;
  most integer;
  trial integer;
  price_id text;
  checked credits.stripe_prices;
  differences text[];
  item jsonb;
  metadata jsonb;
  customer credits.stripe_customers;
begin
  select * into settings from credits.billing_settings;
  wanted := coalesce(lower(currency), settings.default_currency);
  if frozen is not null then
    perform credits.fail(
      'PT403', 'The account is frozen: it can buy nothing.', jsonb_build_object('frozen_at', frozen),
      'Ask the app''s support.'
    );
  elsif num_nonnulls(package, plan) <> 1 then
    perform credits.fail('PT400', 'Name a package or a plan.', '{}', 'Send one of the two, as its slug.');
  end if;

  if package is not null then
    select * into sold from public.credit_packages as p where p.slug = package and p.currency = wanted and p.active;
    if not found then
      perform credits.fail(
        'PT404', 'There is no such package in that currency.',
        jsonb_build_object('package', left(package, 100), 'currency', left(wanted, 10)),
        'The packages on sale are the rows of credit_packages.'
      );
    elsif
      sold.subscribers_only and not exists (
        select from public.subscriptions as s
        where
          s.account_id = account
          and s.status in ('trialing', 'active')
          and not credits.is_second_subscription(s.account_id, s.id)
      )
    then
      perform credits.fail(
        'PT403', 'This package is for subscribers.', jsonb_build_object('package', package), 'Subscribe to a plan first.'
      );
    end if;
    allotment := sold.credits;
    most := coalesce(sold.max_quantity, settings.max_packages);
    price_id := sold.stripe_price_id;
  else
    select * into offered from public.subscription_plans as p where p.slug = plan and p.currency = wanted and p.active;
    if not found then
      perform credits.fail(
        'PT404', 'There is no such plan in that currency.',
        jsonb_build_object('plan', left(plan, 100), 'currency', left(wanted, 10)),
        'The plans on offer are the rows of subscription_plans.'
      );
    elsif exists (
      select from public.subscriptions as s
      where s.account_id = account and credits.is_live(s)
    ) then
      perform credits.fail(
        'PT409', 'You have a subscription already.', '{}', 'Change or cancel it in the billing portal.'
      );
    end if;
    -- One trial an address, as one bonus.
    if
      not exists (
        select from credits.accounts_of_mailbox(account) as m (account_id)
        inner join public.subscriptions as s on m.account_id = s.account_id
      )
    then
      trial := offered.trial_days;
    end if;
    allotment := offered.credits;
    most := case when trial is null then offered.max_quantity else 1 end;
    price_id := offered.stripe_price_id;
  end if;

  if quantity is null or quantity not between 1 and most then
    perform credits.fail(
      'PT400',
      case when most = 1 then 'quantity must be 1.' else format('quantity must be a whole number from 1 to %s.', most) end,
      jsonb_build_object('quantity', quantity, 'limit', most), 'Leave it out for 1.'
    );
  elsif allotment * quantity > settings.max_grant then
    perform credits.fail(
      'PT400', format('At most %s credits can be bought at once.', settings.max_grant),
      jsonb_build_object('credits', allotment * quantity, 'limit', settings.max_grant), 'Buy fewer.'
    );
  end if;

  if price_id is not null then
    select * into checked
    from credits.stripe_prices as s
    where s.id = price_id and s.checked_at > credits.now() - interval '5 minutes';
    -- The row as it is now: what was checked before it was edited says nothing.
    if found then
      differences := credits.price_differences(
        checked.price, wanted, coalesce(sold.unit_amount, offered.unit_amount), offered.interval,
        offered.interval_count, true
      );
    end if;
    if differences <> '{}' then
      perform credits.fail(
        'PT409', 'This cannot be bought at the moment: its price here and in Stripe differ.',
        jsonb_build_object('price', price_id, 'differences', differences),
        'The operator has to correct the row or its Stripe Price.'
      );
    end if;
    item := jsonb_build_object('price', price_id);
  else
    item := jsonb_build_object(
      'price_data', jsonb_build_object(
        'currency', sold.currency, 'unit_amount', sold.unit_amount, 'product_data', jsonb_build_object('name', sold.name)
      )
    );
  end if;
  if price_id is null or differences is not null then
    perform credits.count_checkout(account);
  end if;

  metadata := case
    when package is not null then jsonb_build_object(
      'account_id', account::text, 'package', sold.slug, 'quantity', quantity::text,
      'credits', (sold.credits * quantity)::text
    )
    else jsonb_build_object('account_id', account::text, 'plan', offered.slug)
  end;
  select * into customer from credits.stripe_customers as c where c.account_id = account;
  return jsonb_build_object(
    'mode', case when package is not null then 'payment' else 'subscription' end,
    'account_id', account,
    'customer_id', customer.customer_id,
    'email', credits.email_to_tell(me, null),
    'tell_email', credits.email_to_tell(me, customer.email_hash) is not null,
    'line_item', item || jsonb_build_object('quantity', quantity),
    'currency', wanted,
    'metadata', metadata,
    'trial_period_days', trial,
    'trial_without_card', trial is not null and offered.trial_without_card,
    'allow_promotion_codes', settings.allow_promotion_codes,
    'automatic_tax', settings.automatic_tax,
    'tax_id_collection', settings.tax_id_collection,
    'billing_address_collection', settings.billing_address_collection,
    'check_price', case when differences is null then price_id end,
    'open_checkouts', case
      when plan is not null then (
        select coalesce(
          jsonb_agg(
            jsonb_build_object('id', c.session_id, 'request', c.request) order by c.created_at desc, c.session_id desc
          ),
          '[]'
        )
        from credits.plan_checkouts as c
        where c.account_id = account and c.closed_at is null and c.expires_at > credits.now()
      )
    end
  );
end
$$;

comment on function public.prepare_checkout(text, text, integer, text) is
'What a Checkout session for the signed-in user has to say, from the rows of credit_packages or subscription_plans: '
'{mode, account_id, customer_id, email, tell_email, line_item, currency, metadata, trial_period_days, '
'trial_without_card, allow_promotion_codes, automatic_tax, tax_id_collection, billing_address_collection, '
'check_price, open_checkouts}. The credits are pinned in the metadata. tell_email: whether Stripe has yet to be told '
'the address. check_price: a Price to ask Stripe for and to tell to note_stripe_price; then ask here again. '
'open_checkouts: sessions for plans that may be open still. currency: ISO 4217; default '
'billing_settings.default_currency. Errors: PT400 bad argument, PT403 not signed in, frozen, or for subscribers only, '
'PT404 unknown package or plan, PT409 subscribed already, or the price here and in Stripe differ, PT429 too many '
'(details: limit, retry_after).';

grant execute on function public.prepare_checkout(text, text, integer, text) to authenticated;

-- sql/payments/rpc/prepare_portal.sql
create function public.prepare_portal(flow text default null) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  known_as text;
  customer credits.stripe_customers;
  subscription public.subscriptions;
begin
  if flow not in ('cancel', 'change', 'payment_method') then
    perform credits.fail(
      'PT400', 'flow is cancel, change or payment_method.', jsonb_build_object('flow', left(flow, 100)),
      'Leave it out for the whole portal.'
    );
  end if;
  known_as := public.my_stripe_customer();
  select * into customer from credits.stripe_customers as c where c.customer_id = known_as;
  if flow in ('cancel', 'change') then
    select * into subscription
    from public.subscriptions as s
    where
      s.account_id = customer.account_id
      and credits.is_live(s)
      and not credits.is_second_subscription(s.account_id, s.id)
    order by s.created_at desc
    limit 1;
    if not found then
      perform credits.fail('PT404', 'You have no subscription.', '{}', 'Subscribe to a plan first.');
    elsif flow = 'cancel' and subscription.cancel_at is not null then
      perform credits.fail(
        'PT409', 'Your subscription is cancelled already.', jsonb_build_object('cancel_at', subscription.cancel_at),
        'To keep it, open the portal without flow.'
      );
    end if;
  end if;
  perform credits.count_checkout(customer.account_id);
  return jsonb_build_object(
    'account_id', customer.account_id,
    'customer_id', customer.customer_id,
    'email', credits.email_to_tell(me, null),
    'tell_email', credits.email_to_tell(me, customer.email_hash) is not null,
    'subscription_id', subscription.id
  );
end
$$;

comment on function public.prepare_portal(text) is
'What a session of the billing portal for the signed-in user needs: {account_id, customer_id, email, tell_email, '
'subscription_id}. tell_email: whether Stripe has yet to be told the address. flow: cancel or change (of the '
'subscription), payment_method, or null for all. Errors: PT400 flow, PT403 not signed in, PT404 nothing bought or no '
'subscription, PT409 cancelled already, PT429 too many (details: limit, retry_after).';

grant execute on function public.prepare_portal(text) to authenticated;

-- sql/payments/rpc/remember_checkout.sql
create function public.remember_checkout(
  account_id uuid,
  session_id text,
  request text,
  url text,
  expires_at timestamptz
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  mine credits.plan_checkouts;
  kept credits.plan_checkouts;
begin
  if not exists (select from public.credit_accounts as a where a.id = remember_checkout.account_id) then
    perform credits.fail(
      'PT404', 'There is no such account.', jsonb_build_object('account_id', account_id), 'Check the account id.'
    );
  end if;
  -- One at a time an account, so that of two that were opened at once the second sees the first.
  perform credits.lock_stripe_object('checkout ' || account_id);
  with gone as (
    delete from credits.plan_checkouts as c
    where c.account_id = remember_checkout.account_id and c.expires_at < credits.now() - interval '2 days'
    returning c.session_id
  )

  delete from credits.stripe_objects as o 
  where o.purchase_id is null and o.id in (select g.session_id from gone as g);
  insert into credits.stripe_objects (id, account_id)
  values (remember_checkout.session_id, remember_checkout.account_id)
  on conflict on constraint stripe_objects_pkey do nothing;
  if
    exists (
      select from credits.stripe_objects as o
      where o.id = remember_checkout.session_id and o.account_id <> remember_checkout.account_id
    )
  then
    perform credits.fail(
      'PT409', 'The session is another account''s.', jsonb_build_object('session_id', session_id), 'Open another.'
    );
  end if;
  insert into credits.plan_checkouts (session_id, account_id, request, url, expires_at)
  values (session_id, account_id, request, url, expires_at)
  on conflict on constraint plan_checkouts_pkey do nothing;

  select * into mine
  from credits.plan_checkouts as c
  where c.session_id = remember_checkout.session_id and c.account_id = remember_checkout.account_id;
  if mine.closed_at is not null or mine.expires_at <= credits.now() then
    return jsonb_build_object('session', null, 'close', '[]'::jsonb);
  end if;
  -- Of two that ask for the same the first is kept, else the newest.
  select * into kept
  from credits.plan_checkouts as c
  where
    c.account_id = mine.account_id
    and c.closed_at is null
    and c.expires_at > credits.now()
    and c.request = mine.request
  order by c.created_at, c.session_id
  limit 1;
  return jsonb_build_object(
    'session', jsonb_build_object('id', kept.session_id, 'url', kept.url),
    'close', (
      select coalesce(jsonb_agg(c.session_id order by c.created_at), '[]')
      from credits.plan_checkouts as c
      where
        c.account_id = mine.account_id
        and c.closed_at is null
        and c.expires_at > credits.now()
        and c.session_id <> kept.session_id
    )
  );
end
$$;

comment on function public.remember_checkout(uuid, text, text, text, timestamptz) is
'For the function checkout: notes a session for a plan that it has opened. Returns {session: {id, url}, close}: the '
'one to send the user to, and the ids of those that have to be expired before; session is null when this one is known '
'to be closed, and another has to be opened. request: SHA-256 of what was asked for. Errors: PT404 no such account, '
'PT409 another account''s session.';

grant execute on function public.remember_checkout(uuid, text, text, text, timestamptz) to service_role;

-- sql/payments/rpc/retry_stripe_events.sql
create function public.retry_stripe_events(before timestamptz default null) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  until timestamptz := coalesce(before, credits.now());
  event record;
  result text;
begin
  select e.id, e.payload into event
  from credits.stripe_events as e
  cross join credits.billing_settings as s
  where
    e.status in ('quarantined', 'failed')
    and e.payload is not null
    and e.processed_at < until
    -- What the settings still forbid need not be tried.
    and (e.payload ->> 'livemode')::boolean = s.stripe_livemode
    and e.payload ->> 'account' is not distinct from s.stripe_account
  order by e.processed_at
  limit 1;
  if not found then
    return jsonb_build_object('retried', 0, 'applied', 0, 'failed', 0, 'quarantined', 0);
  end if;

  begin
    result := credits.ingest_stripe_event(event.payload) ->> 'status';
  exception
    when others then
      -- The next one must not wait for it.
      result := 'failed';
      update credits.stripe_events as e
      set
        status = 'failed',
        reason = 'It broke off: ' || sqlstate,
        attempts = e.attempts + 1,
        processed_at = credits.now()
      where e.id = event.id and e.status in ('quarantined', 'failed'); -- not dismissed meanwhile
  end;
  return jsonb_build_object(
    'retried', 1,
    'applied', (result not in ('failed', 'quarantined'))::integer,
    'failed', (result = 'failed')::integer,
    'quarantined', (result = 'quarantined')::integer
  );
end
$$;

comment on function public.retry_stripe_events(timestamptz) is
'Operator: tries the quarantined or failed event again that has waited longest, of those last tried before that '
'moment (default: now); one a call, so that it holds the locks of one. Returns {retried, applied, failed, '
'quarantined}, each 0 or 1: call it with the moment you began until retried is 0.';

grant execute on function public.retry_stripe_events(timestamptz) to service_role;

-- sql/payments/rpc/stripe_balance_transactions_to_ask.sql
create function public.stripe_balance_transactions_to_ask(after text default '') returns text[]
language sql
stable
security definer
set search_path = ''
as $$
  select coalesce(array_agg(b.id order by b.id), '{}')
  from (
    select t.id
    from credits.stripe_balance_transactions as t
    inner join credits.stripe_payments as p on t.payment_intent_id = p.payment_intent_id
    where t.amount is null and t.id > after and p.purchase_id is not null
      and not exists (select from credits.dismissed_stripe_objects as d where d.object_id = t.id)
    order by t.id
    limit 100
  ) as b;
$$;

comment on function public.stripe_balance_transactions_to_ask(text) is
'For reconciliation: ids of Stripe''s balance transactions that purchases, their refunds and disputes name, and whose '
'figures are not known yet, but for those that were dismissed: the first 100 in order after that id. Tell them to '
'ingest_stripe_object.';

grant execute on function public.stripe_balance_transactions_to_ask(text) to service_role;

-- sql/payments/rpc/stripe_emails_to_tell.sql
create function public.stripe_emails_to_tell() returns table (account_id uuid, customer_id text, email text)
language sql
stable
security definer
set search_path = ''
as $$
  select c.account_id, c.customer_id, e.email
  from credits.stripe_customers as c
  inner join public.credit_accounts as a on c.account_id = a.id
  cross join lateral credits.email_to_tell(a.user_id, c.email_hash) as e (email)
  where e.email is not null
  order by c.customer_id
  limit 500;
$$;

comment on function public.stripe_emails_to_tell() is
'For reconciliation: customers whose user has another e-mail address than Stripe was told, at most 500. Tell Stripe, '
'then link_stripe_customer with the address.';

grant execute on function public.stripe_emails_to_tell() to service_role;

-- sql/payments/rpc/stripe_prices_to_check.sql
create function public.stripe_prices_to_check() returns text[]
language sql
stable
security definer
set search_path = ''
as $$
  select coalesce(array_agg(distinct r.stripe_price_id), '{}') from credits.priced_rows as r;
$$;

comment on function public.stripe_prices_to_check() is
'For reconciliation: the ids of all Stripe Prices that rows of credit_packages and subscription_plans name.';

grant execute on function public.stripe_prices_to_check() to service_role;

-- sql/payments/rpc/stripe_problems.sql
create function public.stripe_problems() returns table (
  id text,
  type text,
  status text,
  reason text,
  received_at timestamptz,
  attempts integer
)
language sql
stable
security definer
set search_path = ''
as $$
  select e.id, e.type, e.status::text, e.reason, e.received_at, e.attempts
  from credits.stripe_events as e
  where e.status in ('quarantined', 'failed')
  order by e.received_at, e.id;
$$;

comment on function public.stripe_problems() is
'Operator: Stripe''s events that are quarantined or failed, the oldest first, with the reason and how often they were '
'tried. Mend the cause, and retry_stripe_events applies them; or let them go with dismiss_stripe_event.';

grant execute on function public.stripe_problems() to service_role;

-- sql/payments/rpc/stripe_sync.sql
create function public.stripe_sync(
  events_through timestamptz default null,
  swept_at timestamptz default null
) returns jsonb
language sql
security definer
set search_path = ''
as $$
  update credits.stripe_progress as p
  set
    events_through = greatest(p.events_through, stripe_sync.events_through),
    swept_at = greatest(p.swept_at, stripe_sync.swept_at)
  returning jsonb_build_object('events_through', p.events_through, 'swept_at', p.swept_at);
$$;

comment on function public.stripe_sync(timestamptz, timestamptz) is
'For reconciliation: how far it has come, moved on to the arguments where they are later. Returns {events_through, '
'swept_at}.';

grant execute on function public.stripe_sync(timestamptz, timestamptz) to service_role;

-- sql/payments/subscriptions/allotment_months.sql
create function credits.allotment_months(period credits.allotments) returns table (
  number integer,
  starts_at timestamptz,
  ends_at timestamptz,
  credits bigint,
  granted bigint,
  cost_basis bigint
)
language plpgsql
stable
set search_path = ''
as $$
declare
  -- Months of the calendar in UTC, each counted from the first: the 31st stays the last day.
  origin timestamp := period.period_start at time zone 'UTC';
  entitled numeric;
  counted numeric := 0;
  paid numeric;
  paid_so_far numeric := 0;
  cost bigint;
begin
  for month in 1..period.months loop
    number := month;
    starts_at := (origin + make_interval(months => month - 1)) at time zone 'UTC';
    ends_at := case
      when month = period.months then period.period_end
      else (origin + make_interval(months => month)) at time zone 'UTC'
    end;
    select
      period.credits + coalesce(sum(c.credits), 0),
      case when count(c.cost_basis) = count(*) then period.cost_basis + coalesce(sum(c.cost_basis), 0) end
    into entitled, paid
    from credits.allotments as c
    where
      c.account_id = period.account_id
      and c.subscription_id = period.subscription_id
      and c.period_end = period.period_end
      and c.months is null
      and c.period_start <= starts_at;
    credits := greatest(0, floor((entitled - counted) / (period.months - month + 1)));
    -- Of what is left to pay for the credits that are left, the share of this month's: all of it for the last.
    cost_basis := case
      when paid <= paid_so_far then 0
      else round((paid - paid_so_far) * credits / nullif(entitled - counted, 0))
    end;
    select sum(l.amount), sum(l.cost_basis) into granted, cost
    from credits.purchase_grants as g
    inner join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
    where
      g.account_id = period.account_id
      and g.purchase_id = period.purchase_id
      and g.allotment_key = period.key
      and g.month = allotment_months.number;
    counted := counted + coalesce(granted, credits);
    paid_so_far := paid_so_far + case when granted is not null then cost when credits = 0 then 0 else cost_basis end;
    return next;
  end loop;
end
$$;

comment on function credits.allotment_months(credits.allotments) is
'The months of a period that is granted month by month: when each begins and ends, the credits that it brings, and '
'those that it has brought (null for none yet). What is left is spread evenly over the months that are left, so that '
'all of them sum to the period''s credits and what changes of plan added; so does what was paid for them (cost_basis, '
'minor units, null for unknown).';

-- sql/payments/subscriptions/begin_months.sql
create function credits.begin_months(account_id uuid, purchase_id bigint) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform credits.lock_account(account_id);
  perform credits.grant_allotments(account_id, purchase_id);
  perform credits.claw_back_share(account_id, purchase_id);
  perform credits.collect_subscription_debts(account_id);
  perform credits.end_late_grants(account_id);
end
$$;

comment on function credits.begin_months(uuid, bigint) is
'Grants the months that have begun of a period that is granted month by month, and holds its purchase against what '
'refunds and downgrades take. The caller holds the locks of the purchase''s Stripe objects.';

-- sql/payments/subscriptions/change_allotments.sql
create function credits.change_allotments(
  account_id uuid,
  purchase_id bigint,
  key text,
  at timestamptz,
  until timestamptz,
  change bigint,
  paid bigint
)
returns table (
  credits bigint,
  expires_at timestamptz,
  cost_basis bigint
)
language plpgsql
set search_path = ''
as $$
declare
  period credits.allotments;
  later bigint;
  spread bigint;
begin
  select a.* into period
  from credits.allotments as a
  inner join public.purchases as p on a.account_id = p.account_id and a.subscription_id = p.subscription_id
  where
    p.account_id = change_allotments.account_id
    and p.id = change_allotments.purchase_id
    and a.period_end = until
    and a.months is not null;
  if not found then
    if not exists (
      select from public.purchases as p
      inner join public.purchases as o on p.account_id = o.account_id and p.subscription_id = o.subscription_id
      where
        p.account_id = change_allotments.account_id
        and p.id = change_allotments.purchase_id
        and o.id <> p.id
        and o.period_end = until
    ) then
      perform credits.fail(
        'PT409', 'The invoice changes a period whose own invoice has not come yet.', '{}',
        'Once that has come, Stripe''s next delivery or retry_stripe_events applies it.'
      );
    end if;
    credits := change;
    expires_at := until;
    cost_basis := paid;
    return next;
    return;
  end if;

  -- Of the month that goes on at once, in the measure of its time; the rest with the months that follow.
  select min(m.ends_at) into expires_at from credits.allotment_months(period) as m where m.ends_at > at;
  expires_at := coalesce(expires_at, until);
  credits := round(
    change * extract(epoch from expires_at - at) / greatest(1, extract(epoch from until - at))
  );
  cost_basis := round(paid::numeric * credits / nullif(change, 0));
  insert into credits.allotments (
    account_id, purchase_id, subscription_id, period_start, period_end, credits, key, cost_basis
  )
  values (
    period.account_id, change_allotments.purchase_id, period.subscription_id, expires_at, period.period_end,
    change - credits, change_allotments.key, paid - cost_basis
  );

  -- What no month can bring, or has brought too much: when this comes late.
  select period.credits + coalesce(sum(c.credits), 0) into spread
  from credits.allotments as c
  where
    c.account_id = period.account_id
    and c.subscription_id = period.subscription_id
    and c.period_end = period.period_end
    and c.months is null;
  select spread - sum(coalesce(m.granted, m.credits)) into later from credits.allotment_months(period) as m;
  if later <> 0 then
    cost_basis := round(paid::numeric * (credits + later) / nullif(change, 0));
    update credits.allotments as a set credits = a.credits - later, cost_basis = paid - change_allotments.cost_basis
    where
      a.account_id = change_allotments.account_id
      and a.purchase_id = change_allotments.purchase_id
      and a.key = change_allotments.key;
    credits := credits + later;
  end if;
  return next;
end
$$;

comment on function credits.change_allotments(uuid, bigint, text, timestamptz, timestamptz, bigint, bigint) is
'What a change of plan at a moment, within the period that ends then, brings (or takes, below 0) at once, and when '
'that expires: all of it, or where the period is granted month by month the share of the month that goes on; the '
'rest changes the months that follow; so for what was paid. PT409 while the period is not known. The caller holds '
'the account''s lock.';

-- sql/payments/subscriptions/collect_subscription_debts.sql
create function credits.collect_subscription_debts(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  debt record;
  lot record;
  part record;
  own bigint[];
  period text;
  claimed bigint := 0; -- by earlier debts of this period
  excused bigint := 0; -- what expired of this period and stands for what earlier debts wanted
  claim bigint;
  final bigint;
  unused bigint;
  wanted bigint;
  planned jsonb := jsonb_build_object(); -- credits by grant
  debts bigint[] := array[]::bigint[];
  grants bigint[] := array[]::bigint[];
  amounts bigint[] := array[]::bigint[];
begin
  if not exists (
    select from credits.subscription_debts as d where d.account_id = collect_subscription_debts.account_id
  ) then
    return;
  end if;

  -- The plan: made anew each time from what there is, so that it does not depend on what came first.
  for debt in
    select d.*, i.invoice_id
    from credits.subscription_debts as d
    inner join public.purchases as i on d.account_id = i.account_id and d.purchase_id = i.id
    where d.account_id = collect_subscription_debts.account_id
    order by d.period_end, d.subscription_id, d.period_start, i.invoice_id
  loop
    if period is distinct from concat_ws(' ', debt.period_end, debt.subscription_id) then
      period := concat_ws(' ', debt.period_end, debt.subscription_id);
      claimed := 0;
      excused := 0;
    end if;

    -- Too much is at most what the period brought and neither refunds nor another downgrade took; nothing, while its
    -- own credits are yet to come: a later period's are not to blame for that.
    select
      least(debt.amount, greatest(0, coalesce(sum(p.credits_granted - p.credits_clawed_back), 0)::bigint - claimed)),
      array(
        select g.transaction_id from public.purchases as o
        inner join credits.purchase_grants as g on o.account_id = g.account_id and o.id = g.purchase_id
        where
          o.account_id = debt.account_id and o.subscription_id = debt.subscription_id and o.period_end = debt.period_end
      )
    into claim, own
    from public.purchases as p
    where
      p.account_id = debt.account_id and p.subscription_id = debt.subscription_id and p.period_end = debt.period_end;
    claimed := claimed + claim;

    -- What expired unused was there to be taken, had the message come in time.
    select coalesce(sum(t.taken), 0)::bigint into final
    from credits.debt_takings(debt.account_id) as t
    where t.debt_id = debt.purchase_id and t.is_final;
    select least(coalesce(-sum(t.amount), 0)::bigint - excused, greatest(0, claim - final)) into unused
    from public.credit_transactions as t
    inner join credits.credit_grants as l on t.account_id = l.account_id and t.related_id = l.transaction_id
    where t.account_id = debt.account_id and t.related_id = any(own) and t.kind = 'expiry' and l.expires_at > debt.period_start;
    excused := excused + unused;

    wanted := greatest(0, claim - final - unused);
    for lot in
      select
        g.transaction_id as id,
        l.remaining + coalesce((
          select sum(t.taken) from credits.debt_takings(debt.account_id) as t where t.grant_id = g.transaction_id
        ), 0) - coalesce((planned ->> g.transaction_id::text)::bigint, 0) as available
      from public.purchases as p
      inner join credits.purchase_grants as g on p.account_id = g.account_id and p.id = g.purchase_id
      inner join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
      where
        wanted > 0
        and p.account_id = debt.account_id
        and p.subscription_id is not null
        and p.period_end > debt.period_start
        and l.expires_at > credits.now()
      order by g.transaction_id = any(own) desc, p.period_end, l.expires_at, g.transaction_id
    loop
      claim := least(wanted, lot.available);
      continue when claim <= 0;
      wanted := wanted - claim;
      planned := planned || jsonb_build_object(lot.id, coalesce((planned ->> lot.id::text)::bigint, 0) + claim);
      debts := debts || debt.purchase_id;
      grants := grants || lot.id;
      amounts := amounts || claim;
    end loop;
    update credits.subscription_debts as d set owed = wanted
    where d.account_id = debt.account_id and d.purchase_id = debt.purchase_id and d.owed <> wanted;
  end loop;

  -- What differs from it: first back, then anew.
  for part in
    with plan as (
      select * from unnest(debts, grants, amounts) as x (debt_id, grant_id, credits)
    ),

    taken as (
      select t.* from credits.debt_takings(collect_subscription_debts.account_id) as t where not t.is_final
    )

    select
      debt_id,
      grant_id,
      coalesce(plan.credits, 0) - coalesce(taken.taken, 0) as more
    from plan
    full join taken using (debt_id, grant_id)
    order by more, grant_id, debt_id
  loop
    if part.more < 0 then
      perform credits.give_back_clawbacks(
        collect_subscription_debts.account_id, 'downgrade', part.debt_id, -part.more,
        jsonb_build_object('downgrade', part.debt_id), part.grant_id
      );
    elsif part.more > 0 then
      perform credits.claw_back(
        collect_subscription_debts.account_id, part.more, part.grant_id,
        metadata => jsonb_build_object('downgrade', part.debt_id),
        cause => 'downgrade',
        purchase_id => part.debt_id
      );
    end if;
  end loop;
end
$$;

comment on function credits.collect_subscription_debts(uuid) is
'Takes back what downgrades of the account''s subscriptions left too much: from the unspent credits of the same '
'period, then from those of later ones, of whichever subscription; never from what was purchased, nor what refunds '
'took or what expired unused. What is spent stays owed, so that going up and down again, or leaving and coming back, '
'wins nothing. The result depends on what is known, not on the order in which it came. The caller holds the account''s '
'lock.';

-- sql/payments/subscriptions/grant_allotments.sql
create function credits.grant_allotments(account_id uuid, purchase_id bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  period credits.allotments;
  month record;
  rolling bigint;
  own bigint;
  grants bigint[];
begin
  select * into period from credits.allotments as a
  where
    a.account_id = grant_allotments.account_id
    and a.purchase_id = grant_allotments.purchase_id
    and a.months is not null
    and a.next_at <= credits.now();
  if not found then
    return;
  end if;
  for month in
    select m.* from credits.allotment_months(period) as m
    where
      m.starts_at <= credits.now()
      and m.granted is null
      and m.credits > 0
      -- What ended at once, and not with its period, goes no further.
      and not exists (
        select from public.subscriptions as s
        where s.account_id = period.account_id and s.id = period.subscription_id and s.ended_at <= m.starts_at
      )
      -- All the money went back, also that of changes. Should it return, a month that goes on then is granted then.
      and exists (
        select from credits.allotments as c
        inner join public.purchases as p on c.account_id = p.account_id and c.purchase_id = p.id
        where
          c.account_id = period.account_id
          and c.subscription_id = period.subscription_id
          and c.period_end = period.period_end
          and (c.months is not null or c.credits > 0 and c.period_start <= m.starts_at)
          and (p.amount = 0 or p.refunded_amount + p.disputed_amount < p.amount)
      )
      -- What would have expired by now need not come; the last one of all is the newest, and may be late.
      and (m.ends_at > credits.now() or m.number = period.months)
    order by m.number
  loop
    -- What changes of plan add to a month, their payments paid for.
    own := least(month.credits, round(period.credits::numeric / period.months));
    rolling := case when period.rollover > '0' then least(month.credits, coalesce(period.rollover_cap, month.credits)) else 0 end;
    grants := array[]::bigint[];
    if month.credits > rolling then
      grants := grants || credits.grant_purchase(
        account_id, period.purchase_id, month.credits - rolling, 'subscription', month.ends_at, period.priority,
        format('%s:%s', period.key, month.number),
        month.cost_basis - round(month.cost_basis::numeric * rolling / month.credits)::bigint,
        period.key, month.number
      );
    end if;
    if rolling > 0 then
      grants := grants || credits.grant_purchase(
        account_id, period.purchase_id, rolling, 'subscription', month.ends_at + period.rollover, period.priority,
        format('%s:%s:rollover', period.key, month.number),
        round(month.cost_basis::numeric * rolling / month.credits)::bigint, period.key, month.number
      );
    end if;
    insert into credits.allotment_sources (account_id, transaction_id, purchase_id, part)
    with changes as (
      select
        a.purchase_id,
        sum(a.credits::numeric / x.months) as rate,
        sum(sum(a.credits::numeric / x.months)) over () as rates
      from credits.allotments as a
      cross join lateral (
        select count(*) as months from credits.allotment_months(period) as n where n.starts_at >= a.period_start
      ) as x
      where
        month.credits > own
        and a.account_id = period.account_id
        and a.subscription_id = period.subscription_id
        and a.period_end = period.period_end
        and a.months is null
        and a.credits > 0
        and a.period_start <= month.starts_at
      group by a.purchase_id
    )

    select period.account_id, g.id, s.purchase_id, s.part
    from unnest(grants) as g (id)
    cross join (
      select c.purchase_id, round((month.credits - own) * c.rate / c.rates, 6) as part from changes as c
      union all
      select period.purchase_id, own where exists (select from changes)
    ) as s;
  end loop;

  update credits.allotments as a
  set next_at = (
    select min(m.starts_at) from credits.allotment_months(period) as m where m.starts_at > credits.now()
  )
  where a.account_id = period.account_id and a.purchase_id = period.purchase_id and a.key = period.key;
end
$$;

comment on function credits.grant_allotments(uuid, bigint) is
'Grants the months of a purchase''s period that have begun, once each; none while all of its money is refunded or '
'disputed, and none that begins after the subscription has ended. credits.claw_back_share, which takes the share of a '
'part that was refunded, and credits.collect_subscription_debts have to follow. The caller holds the account''s lock.';

-- sql/payments/subscriptions/grant_invoice.sql
create function credits.grant_invoice(account_id uuid, purchase_id bigint, invoice jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  part record;
  most bigint;
  had_trial boolean;
begin
  -- Decided here, under the account's lock: several checkouts with a trial may have been open at once.
  select exists(
    select from credits.accounts_of_mailbox(grant_invoice.account_id) as m (account_id)
    inner join public.credit_transactions as t on m.account_id = t.account_id
    where t.idempotency_key in ('sys:stripe:trial', 'sys:stripe:trial:rollover')
  ) into had_trial;
  select s.max_grant into most from credits.billing_settings as s;
  for part in
    select g.* from credits.invoice_grants_and_rollover(invoice) as g order by g.expires_at, g.key
  loop
    if part.is_trial and had_trial then
      continue;
    elsif part.is_proration and abs(part.credits) > most then
      perform credits.fail(
        'PT422', 'A proration of the invoice is out of range.',
        jsonb_build_object('plan', part.plan, 'credits', part.credits, 'limit', most),
        'The limit is billing_settings.max_grant.'
      );
    end if;
    update public.purchases as p set period_end = greatest(p.period_end, part.period_end)
    where p.account_id = grant_invoice.account_id and p.id = purchase_id and part.credits > 0;
    if part.is_monthly and not part.is_proration then
      perform credits.open_allotment(
        account_id, purchase_id, part.key, part.credits, part.period_start, part.period_end, part.rollover,
        part.rollover_cap, part.priority, part.cost_basis
      );
      continue;
    elsif part.is_monthly then
      select c.credits, c.expires_at, c.cost_basis into part.credits, part.expires_at, part.cost_basis
      from credits.change_allotments(
        account_id, purchase_id, part.key, part.period_start, part.period_end, part.credits, part.cost_basis
      ) as c;
      update public.purchases as p set period_end = greatest(p.period_end, part.period_end)
      where p.account_id = grant_invoice.account_id and p.id = purchase_id and part.credits > 0;
    end if;
    if part.credits > 0 then
      perform credits.grant_purchase(
        account_id, purchase_id, part.credits, 'subscription', part.expires_at, part.priority, part.key,
        part.cost_basis
      );
    elsif part.credits < 0 then
      insert into credits.subscription_debts (
        purchase_id, account_id, subscription_id, period_start, period_end, amount, owed
      )
      select p.id, p.account_id, p.subscription_id, part.period_start, part.period_end, -part.credits, 0
      from public.purchases as p
      where p.account_id = grant_invoice.account_id and p.id = grant_invoice.purchase_id;
    end if;
  end loop;
end
$$;

comment on function credits.grant_invoice(uuid, bigint, jsonb) is
'Grants what a paid invoice brings, a trial once per address, and notes what a downgrade takes. The caller holds the '
'account''s lock. PT422 for a proration beyond billing_settings.max_grant.';

-- sql/payments/subscriptions/invoice_grants_and_rollover.sql
create function credits.invoice_grants_and_rollover(invoice jsonb) returns table (
  key text,
  plan text,
  credits bigint,
  is_trial boolean,
  is_proration boolean,
  is_monthly boolean,
  rollover interval,
  rollover_cap bigint,
  period_start timestamptz,
  period_end timestamptz,
  expires_at timestamptz,
  priority integer,
  cost_basis bigint
)
language sql
stable
set search_path = ''
-- Estimated as dear, with a few lines to read: compiling it took a second for each invoice.
set jit = off
as $$
  with billed as (
    select
      l.ordinality as number,
      l.value as line,
      d.discount,
      (l.value ->> 'amount')::bigint - d.discount as price,
      sum((l.value ->> 'amount')::bigint - d.discount) over (order by l.ordinality) as prices_so_far,
      sum((l.value ->> 'amount')::bigint - d.discount) over () as prices,
      (invoice ->> 'total_excluding_tax')::numeric as net
    from jsonb_array_elements(invoice #> '{lines,data}') with ordinality as l
    cross join lateral (
      select coalesce(sum((a.value ->> 'amount')::bigint), 0)::bigint as discount
      from jsonb_array_elements(
        case jsonb_typeof(l.value -> 'discount_amounts') when 'array' then l.value -> 'discount_amounts' else '[]' end
      ) as a
    ) as d
  ),

  lines as (
    select
      l.line ->> 'id' as line_id,
      -- Prorations come as invoice items or as items of the subscription.
      coalesce(
        (l.line #>> '{parent,invoice_item_details,proration}')::boolean,
        (l.line #>> '{parent,subscription_item_details,proration}')::boolean
      ) as is_proration,
      jsonb_typeof(l.line #> '{parent,subscription_item_details}') = 'object' as is_period,
      (l.line ->> 'amount')::bigint as amount,
      -- Nothing to pay, say with a promotion code of 100 percent: not for as many as one likes.
      least(
        coalesce((l.line ->> 'quantity')::integer, 1),
        case when l.discount > 0 and l.discount >= (l.line ->> 'amount')::bigint then s.max_free_packages end
      ) as quantity,
      to_timestamp((l.line #>> '{period,start}')::bigint) as period_start,
      to_timestamp((l.line #>> '{period,end}')::bigint) as period_end,
      l.number,
      -- Prices may include taxes: then the line's share of what is left without them, to the last cent of all lines.
      case
        when l.prices = l.net then l.price
        when l.prices <> 0
          then round(l.net * l.prices_so_far / l.prices) - round(l.net * (l.prices_so_far - l.price) / l.prices)
      end::bigint as net_price,
      p.*
    from billed as l
    inner join public.subscription_plans as p
      on credits.stripe_id(l.line #> '{pricing,price_details,price}') = p.stripe_price_id
    cross join credits.billing_settings as s
  ),

  allotments as (
    select
      -- Nothing to pay for a plan that costs something: the trial.
      case when l.amount = 0 then 'trial' else l.line_id end as key,
      l.slug as plan,
      case
        -- Whatever the quantity: whoever asks chooses it, and pays nothing.
        when l.amount = 0 then coalesce(l.trial_credits, l.credits / case
          when l.monthly_allotment then l.interval_count * case l.interval when 'year' then 12 else 1 end
          else 1
        end)
        when l.is_proration then round(l.credits * l.amount::numeric / l.unit_amount)::bigint
        else l.credits * l.quantity
      end as credits,
      l.amount = 0 as is_trial,
      coalesce(l.is_proration, false) as is_proration,
      l.monthly_allotment and l.amount > 0 and not coalesce(l.is_proration, false) as is_monthly,
      l.period_start,
      l.period_end,
      l.rollover,
      coalesce(l.rollover_cap, 9223372036854775807) as cap,
      l.priority,
      l.net_price
    from lines as l
    where
      -- A subscription that begins in the middle of its first period (billing_cycle_anchor) pays a share of it.
      l.is_proration and l.amount > 0 and invoice ->> 'billing_reason' = 'subscription_create'
      or l.is_period
      and not l.is_proration
      and (
        l.amount > 0
        -- One trial, however many items the subscription has.
        or invoice ->> 'billing_reason' = 'subscription_create'
        and l.number = (
          select min(f.number) from lines as f where f.amount = 0 and f.is_period and not f.is_proration
        )
      )
      and (
        invoice ->> 'billing_reason' in ('subscription_create', 'subscription_cycle')
        -- A change in mid-period bills differences only; one that starts a new period (month to year) bills that in
        -- full, beginning at the change.
        or l.period_start >= all(select c.period_start from lines as c where c.is_proration)
      )
  ),

  differences as (
    select
      (array_agg(l.slug order by l.amount desc))[1] as plan,
      round(sum(l.credits * l.amount::numeric / l.unit_amount))::bigint as credits,
      min(l.period_start) as period_start,
      max(l.period_end) as period_end,
      bool_or(l.monthly_allotment and l.amount < 0) as is_monthly,
      (array_agg(l.priority order by l.amount desc))[1] as priority,
      case when count(l.net_price) = count(*) then sum(l.net_price)::bigint end as net_price
    from lines as l
    where l.is_proration and invoice ->> 'billing_reason' = 'subscription_update'
  )

  select a.key, a.plan, a.credits - r.rolling, a.is_trial, a.is_proration, a.is_monthly, a.rollover,
    nullif(a.cap, 9223372036854775807), a.period_start, a.period_end, a.period_end, a.priority,
    a.net_price - round(a.net_price::numeric * r.rolling / a.credits)::bigint
  from allotments as a
  cross join lateral (select case when a.rollover > '0' and not a.is_monthly then least(a.credits, a.cap) else 0 end as rolling) as r
  where a.credits > r.rolling
  union all
  select
    a.key || ':rollover', a.plan, least(a.credits, a.cap), a.is_trial, a.is_proration, false, a.rollover, a.cap,
    a.period_start, a.period_end, a.period_end + a.rollover, a.priority,
    round(a.net_price::numeric * least(a.credits, a.cap) / a.credits)::bigint
  from allotments as a
  where a.rollover > '0' and not a.is_monthly and least(a.credits, a.cap) > 0
  union all
  select
    (invoice ->> 'id') || ':proration', d.plan, d.credits, false, true, d.is_monthly, null, null,
    d.period_start, d.period_end, d.period_end, d.priority, d.net_price
  from differences as d
  where d.credits <> 0;
$$;

comment on function credits.invoice_grants_and_rollover(jsonb) is
'What a paid invoice of a subscription grants: one row per lot, with the key that makes it once, the credits and when '
'they expire. A full line brings the plan''s credits; what of them may roll over is a lot of its own that lives '
'longer. A trial brings its credits once, whatever the quantity; a line that is wholly discounted those of '
'billing_settings.max_free_packages at most. A proration line of a first invoice brings its share, round(credits * '
'amount / unit_amount); those of an update bring their difference in the measure of the money, round(sum(credits * '
'amount / unit_amount)), below 0 for a downgrade. What is_monthly comes month by month (credits.grant_allotments): one '
'row for all of it. Lines of prices that are no plan''s bring nothing. cost_basis: what is paid for the lot without '
'taxes, in minor units, so that all lines sum to the invoice''s; below 0 for a downgrade, null where Stripe does not '
'say.';

-- sql/payments/subscriptions/is_second_subscription.sql
create function credits.is_second_subscription(account_id uuid, subscription_id text) returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return exists (
    select from credits.second_subscriptions as s
    where
      s.account_id = is_second_subscription.account_id
      and s.subscription_id = is_second_subscription.subscription_id
      and s.outcome is distinct from 'kept'
  );
end
$$;

comment on function credits.is_second_subscription(uuid, text) is
'Whether a subscription came second, so that it brings no credits.';

-- sql/payments/subscriptions/note_second_subscription.sql
create function credits.note_second_subscription(account_id uuid, subscription_id text) returns void
language plpgsql
set search_path = ''
as $$
declare
  me public.subscriptions;
  first_id text;
begin
  select * into me
  from public.subscriptions as s
  where s.account_id = note_second_subscription.account_id and s.id = subscription_id;
  if credits.is_live(me) or me.stripe_status in ('canceled', 'incomplete_expired') then
    return; -- it had begun before this message, or is over
  end if;
  select s.id into first_id
  from public.subscriptions as s
  where
    s.account_id = me.account_id
    and s.id <> me.id
    and credits.is_live(s)
    and not credits.is_second_subscription(s.account_id, s.id)
  order by s.created_at, s.id
  limit 1;
  if found then
    insert into credits.second_subscriptions (subscription_id, account_id, first_id, noticed_at)
    values (me.id, me.account_id, first_id, credits.now())
    on conflict on constraint second_subscriptions_pkey do nothing;
  end if;
end
$$;

comment on function credits.note_second_subscription(uuid, text) is
'To be called when a message says that a subscription has begun, before anything of the message is noted: if the '
'account has another one, this is a second. The caller holds the account''s lock.';

-- sql/payments/subscriptions/open_allotment.sql
create function credits.open_allotment(
  account_id uuid,
  purchase_id bigint,
  key text,
  amount bigint,
  period_start timestamptz,
  period_end timestamptz,
  rollover interval,
  rollover_cap bigint,
  priority integer,
  cost_basis bigint
) returns void
language plpgsql
set search_path = ''
as $$
declare
  origin timestamp := period_start at time zone 'UTC';
  finish timestamp := period_end at time zone 'UTC';
  -- Of the calendar; not by age(), to which 30 November to 28 February is less than three months.
  count integer := (extract(year from finish) - extract(year from origin)) * 12
    + extract(month from finish) - extract(month from origin);
begin
  if origin + make_interval(months => count) > finish then
    count := count - 1;
  end if;
  insert into credits.allotments (
    purchase_id, account_id, subscription_id, period_start, period_end, credits, months, key, rollover, rollover_cap,
    priority, next_at, cost_basis
  )
  select
    p.id, p.account_id, p.subscription_id, open_allotment.period_start, open_allotment.period_end, open_allotment.amount,
    greatest(1, count), open_allotment.key, open_allotment.rollover,
    open_allotment.rollover_cap, open_allotment.priority, open_allotment.period_start, open_allotment.cost_basis
  from public.purchases as p
  where p.account_id = open_allotment.account_id and p.id = open_allotment.purchase_id;
  perform credits.grant_allotments(account_id, purchase_id);
end
$$;

comment on function credits.open_allotment is
'Begins a paid period whose credits come month by month, and grants what has begun of it. The caller holds the '
'account''s lock.';

-- sql/payments/subscriptions/release_subscription_debts.sql
create function credits.release_subscription_debts(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  part record;
begin
  if exists (
    select from credits.subscription_debts as d where d.account_id = release_subscription_debts.account_id
  ) then
    for part in
      select t.* from credits.debt_takings(account_id) as t where not t.is_final order by t.debt_id desc, t.grant_id desc
    loop
      perform credits.give_back_clawbacks(
        release_subscription_debts.account_id, 'downgrade', part.debt_id, part.taken,
        jsonb_build_object('downgrade', part.debt_id), part.grant_id
      );
    end loop;
  end if;
end
$$;

comment on function credits.release_subscription_debts(uuid) is
'Gives back to lots that are still alive what downgrades took of them, so that a refund or a dispute comes first: it '
'takes for certain, a downgrade only what is unspent. credits.collect_subscription_debts follows. The caller holds '
'the account''s lock.';

-- sql/payments/subscriptions/set_subscription_status.sql
create function credits.set_subscription_status(account_id uuid, subscription_id text) returns void
language sql
set search_path = ''
as $$
  update public.subscriptions as s
  set
    status = case
      when s.stripe_status = 'active' and p.status = 'failed' then 'past_due'
      when s.stripe_status in ('past_due', 'unpaid', 'incomplete') and p.status = 'paid' then 'active'
      else s.stripe_status
    end,
    updated_at = credits.now()
  from public.subscriptions as me
  left join credits.stripe_objects as o on me.latest_invoice_id = o.id
  left join public.purchases as p on o.account_id = p.account_id and o.purchase_id = p.id
  where
    me.account_id = set_subscription_status.account_id
    and me.id = set_subscription_status.subscription_id
    and s.account_id = me.account_id
    and s.id = me.id;
$$;

comment on function credits.set_subscription_status(uuid, text) is
'Sets a subscription''s status from what Stripe''s object said and what is known of its latest invoice: whichever '
'message comes first, a failed invoice means past_due and a paid one ends that. The caller holds the account''s lock.';

-- sql/payments/subscriptions/subscription_rank.sql
create function credits.subscription_rank(
  subscription public.subscriptions,
  out ended boolean,
  out period_start timestamptz,
  out begun boolean
)
language sql
immutable
set search_path = ''
as $$
  select
    subscription.stripe_status in ('canceled', 'incomplete_expired'),
    coalesce(subscription.current_period_start, '-infinity'),
    subscription.stripe_status <> 'incomplete';
$$;

comment on function credits.subscription_rank(public.subscriptions) is
'How far a subscription''s life has come, by its content: compare two as rows.';

-- sql/payments/subscriptions/sweep_allotments.sql
create function credits.sweep_allotments(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  due record;
  ends_at constant timestamptz := clock_timestamp() + interval '1 second';
  done integer := 0;
begin
  for due in
    select a.purchase_id, a.account_id, p as purchase
    from credits.allotments as a
    inner join public.purchases as p on a.account_id = p.account_id and a.purchase_id = p.id
    where
      a.next_at <= credits.now()
      and not exists (
        select from credits.maintenance_failures as f
        where f.task = 'allotments' and f.account_id = a.account_id and f.retry_at > credits.now()
      )
    order by a.next_at
    limit batch
  loop
    -- Each may have to wait for its user's row; nobody shall wait longer for the accounts that are locked by now.
    exit when clock_timestamp() >= ends_at;
    -- Whoever deals with this invoice or account now is not waited for: the caller may hold other accounts' locks.
    continue when not pg_try_advisory_xact_lock(hashtextextended((due.purchase).invoice_id, 0));
    continue when exists (
      select from unnest(credits.purchase_payments(due.purchase)) as s (id)
      where not pg_try_advisory_xact_lock(hashtextextended(s.id, 0))
    );
    perform from public.credit_accounts as a where a.id = due.account_id for no key update skip locked;
    continue when not found;
    done := done + case when credits.attempt(
      'allotments', format('select to_jsonb(credits.begin_months($1[1], %L))', due.purchase_id), array[due.account_id]
    ) is not null then 1 else 0 end;
  end loop;

  -- Over, by whomever: no month waits any more.
  delete from credits.maintenance_failures as f
  where f.id in (
    select o.id
    from credits.maintenance_failures as o
    where
      o.task = 'allotments' and o.account_id is not null
      and not exists (
        select from credits.allotments as a where a.account_id = o.account_id and a.next_at <= credits.now()
      )
    -- Another run has it, or has just written it.
    for update of o skip locked
  );
  return done;
end
$$;

comment on function credits.sweep_allotments(integer) is
'Grants the months that have begun of up to batch periods that are granted month by month; returns of how many. Leaves '
'to the next time what others have locked, and all after a second, and notes what fails.';
