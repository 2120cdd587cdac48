-- The whole of sql/ in load order (supabase/config.toml, schema_paths). Written by scripts/migration.

set local lock_timeout = '10s';

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
'Credits: a DBA who sets prices. May read, insert and update pricing_tiers and credit_packages, and read '
'the price history; nothing else. Give it to a login: grant pricing_admin to NAME.';

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
'the tests do, in databases of their own.';

-- Evaluated as the reader in policies and in views.
grant execute on function credits.now() to anon, authenticated, service_role, pricing_admin;

-- sql/base/credit_amount.sql
create domain credits.credit_amount as bigint
constraint must_be_0_to_a_quadrillion check (value between 0 and 1000000000000000);

comment on domain credits.credit_amount is
'A number of credits that cannot be negative. A domain, because it is checked only where a statement assigns it: a '
'CHECK of the table is read from the catalog and planned anew by every spend.';

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

-- sql/base/billing_settings.sql
create table credits.billing_settings (
  id boolean primary key default true,
  signup_bonus bigint not null default 10,
  signup_bonus_lifetime interval,
  hold_ttl interval not null default '15 minutes',
  hold_ttl_max interval not null default '24 hours',
  refund_grace interval not null default '30 days',
  max_quantity integer not null default 10000,
  max_grant bigint not null default 1000000000,
  constraint only_one_row check (id),
  constraint signup_bonus_must_be_0_to_1000000 check (signup_bonus between 0 and 1000000),
  constraint signup_bonus_lifetime_must_be_over_0 check (signup_bonus_lifetime > '0'),
  constraint hold_ttl_must_be_over_0_and_at_most_hold_ttl_max check (hold_ttl > '0' and hold_ttl <= hold_ttl_max),
  constraint hold_ttl_max_must_be_at_most_30_days check (hold_ttl_max <= '30 days'),
  constraint refund_grace_must_be_over_0 check (refund_grace > '0'),
  constraint max_quantity_must_be_1_to_1000000 check (max_quantity between 1 and 1000000),
  constraint max_grant_must_be_1_to_1000000000000 check (max_grant between 1 and 1000000000000)
);

insert into credits.billing_settings default values;

alter table credits.billing_settings enable row level security;
alter table credits.billing_settings force row level security;
revoke all on table credits.billing_settings from anon, authenticated, service_role;

comment on table credits.billing_settings is 'Settings of the ledger: exactly one row. Change it with UPDATE.';
comment on column credits.billing_settings.id is 'Always true: there is one row.';
comment on column credits.billing_settings.signup_bonus is 'Credits granted when an account opens; 0 for none.';
comment on column credits.billing_settings.signup_bonus_lifetime is 'How long the bonus lives; null for ever.';
comment on column credits.billing_settings.hold_ttl is 'How long a hold lives when its maker does not say.';
comment on column credits.billing_settings.hold_ttl_max is 'The longest hold that may be asked for.';
comment on column credits.billing_settings.refund_grace is
'How long refunded credits live when the lot they came from has expired.';
comment on column credits.billing_settings.max_quantity is 'The largest quantity of one quote, spend or hold.';
comment on column credits.billing_settings.max_grant is 'The largest single grant or clawback, in credits.';

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

-- sql/accounts/credit_accounts.sql
-- One row an owner. Today an owner is a user; a team will be a second nullable column beside user_id. The ledger
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
  unsettled_since timestamptz,
  updated_at timestamptz not null default clock_timestamp(),
  held credits.credit_amount not null default 0,
  lapsed credits.credit_amount not null default 0,
  lifetime_granted credits.credit_amount not null default 0,
  lifetime_refunded credits.credit_amount not null default 0,
  lifetime_expired credits.credit_amount not null default 0,
  lifetime_clawed_back credits.credit_amount not null default 0,
  frozen_at timestamptz,
  frozen_reason text,
  settled_through bigint not null default 0,
  debt_from bigint,
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
using (user_id = (select auth.uid()) and (next_expiry is null or next_expiry > credits.now()));

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
'One row an owner of credits. Amounts are whole credits. Written by the ledger''s functions only. For a client: '
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
comment on column public.credit_accounts.frozen_reason is 'Why it is frozen. The owner can read it.';
comment on column public.credit_accounts.unsettled_since is
'When the oldest ledger row after the last settlement was written.';
comment on column public.credit_accounts.settled_through is 'Id of the last settled ledger row; 0 for none.';
comment on column public.credit_accounts.debt_from is
'Id of the oldest ledger row that no lot has wholly paid for; null for none.';

-- sql/accounts/my_account_id.sql
create function credits.my_account_id() returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  select a.id from public.credit_accounts as a where a.user_id = auth.uid();
$$;

comment on function credits.my_account_id() is
'The account of the signed-in user, null when there is none. Policies call it as (select credits.my_account_id()), '
'once a query.';

grant execute on function credits.my_account_id() to authenticated;

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
  )
);

alter table public.pricing_tiers enable row level security;
alter table public.pricing_tiers force row level security;
revoke all on table public.pricing_tiers from anon, authenticated, service_role;
revoke all on sequence public.pricing_tiers_id_seq from anon, authenticated, service_role;
grant select on table public.pricing_tiers to anon, authenticated, service_role, pricing_admin;
grant insert (operation, provider, model, unit, credits_per_unit, effective_from, active, metadata)
on table public.pricing_tiers to pricing_admin;
grant update (operation, provider, model, unit, credits_per_unit, effective_from, active, metadata)
on table public.pricing_tiers to pricing_admin;

comment on table public.pricing_tiers is
'Prices: what one unit of an operation costs, from when. DBAs insert and update rows; the price in force is the '
'active row with the latest effective_from that has come. Clients see the prices in force, one row an operation.';
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
comment on column public.pricing_tiers.metadata is 'A JSON object for the app, such as limits of the model.';
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

-- sql/pricing/credit_packages.sql
create table public.credit_packages (
  id bigint generated always as identity primary key,
  slug text not null,
  name text not null,
  credits bigint not null,
  unit_amount bigint not null,
  currency text not null default 'usd',
  is_popular boolean not null default false,
  active boolean not null default true,
  stripe_price_id text,
  constraint credit_packages_slug_key unique (slug),
  constraint credit_packages_stripe_price_id_key unique (stripe_price_id),
  constraint slug_must_be_lower_case_words_of_1_to_63_letters check (slug ~ '^[a-z][a-z0-9_-]{0,62}$'),
  constraint name_must_have_1_to_100_characters check (char_length(btrim(name)) between 1 and 100),
  constraint credits_must_be_1_to_1000000000 check (credits between 1 and 1000000000),
  constraint unit_amount_must_be_1_to_99999999_minor_units check (unit_amount between 1 and 99999999),
  constraint currency_must_be_an_iso_4217_code_in_lower_case check (currency ~ '^[a-z]{3}$'),
  constraint stripe_price_id_must_start_with_price check (stripe_price_id ~ '^price_[A-Za-z0-9_]+$')
);

alter table public.credit_packages enable row level security;
alter table public.credit_packages force row level security;
revoke all on table public.credit_packages from anon, authenticated, service_role;
revoke all on sequence public.credit_packages_id_seq from anon, authenticated, service_role;
grant select on table public.credit_packages to anon, authenticated, service_role, pricing_admin;
grant insert (slug, name, credits, unit_amount, currency, is_popular, active, stripe_price_id)
on table public.credit_packages to pricing_admin;
grant update (slug, name, credits, unit_amount, currency, is_popular, active, stripe_price_id)
on table public.credit_packages to pricing_admin;

create policy active_packages on public.credit_packages for select to anon, authenticated using (active);
create policy pricing_admin_edits on public.credit_packages for all to pricing_admin
using (true) with check (true);

comment on table public.credit_packages is
'What users can buy. DBAs insert and update rows; clients see the active ones.';
comment on column public.credit_packages.slug is 'The package''s name in code and links.';
comment on column public.credit_packages.name is 'The name that people read.';
comment on column public.credit_packages.credits is 'Credits that one package grants.';
comment on column public.credit_packages.unit_amount is 'Price in minor units of the currency: 499 is $4.99.';
comment on column public.credit_packages.currency is 'ISO 4217 code in lower case, as Stripe takes it.';
comment on column public.credit_packages.is_popular is 'Whether the shop marks it as the popular choice.';
comment on column public.credit_packages.active is 'False takes it out of the shop.';
comment on column public.credit_packages.stripe_price_id is 'The Stripe Price that sells it; null to price it inline.';

-- sql/ledger/transaction_kind.sql
create type public.transaction_kind as enum (
  'grant', -- credits come in and make a lot
  'spend', -- consume_credits
  'capture', -- a hold is used
  'refund', -- credits of a spend or capture go back
  'clawback', -- granted credits are taken back, below zero if need be
  'expiry' -- what was left in a lot when it expired
);

comment on type public.transaction_kind is 'Why a balance changed. Grants and refunds add, the others take.';

-- sql/ledger/hold_status.sql
create type public.hold_status as enum (
  'held', -- open; becomes one of the others, once
  'captured', -- used, wholly or in part
  'released', -- given back by release_hold
  'expired' -- its time ran out
);

comment on type public.hold_status is 'The life of a hold.';

-- sql/ledger/credit_transactions.sql
-- No CHECK, as in credit_accounts: each would be planned anew by every spend. Only the ledger's functions write here,
-- and verify_ledger holds each row against the rules.
create table public.credit_transactions (
  id bigint generated always as identity primary key,
  account_id uuid not null,
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
  request_hash bytea,
  metadata jsonb not null default '{}',
  created_at timestamptz not null
);

-- An account's history, newest first. Ids rise within an account: they are drawn under the account's lock.
create unique index credit_transactions_account_id_id on public.credit_transactions (account_id, id desc);
create unique index credit_transactions_idempotency_key on public.credit_transactions (account_id, idempotency_key)
where idempotency_key is not null;
create unique index credit_transactions_hold_id on public.credit_transactions (hold_id) where hold_id is not null;
create index credit_transactions_related_id on public.credit_transactions (related_id) where related_id is not null;

alter table public.credit_transactions enable row level security;
alter table public.credit_transactions force row level security;
revoke all on table public.credit_transactions from anon, authenticated, service_role;
revoke all on sequence public.credit_transactions_id_seq from anon, authenticated, service_role;
grant select on table public.credit_transactions to authenticated, service_role;
create policy own_transactions on public.credit_transactions for select to authenticated
using (account_id = (select credits.my_account_id()));

comment on table public.credit_transactions is
'The ledger: one row a change of a balance, append-only. Order by id: it is the order in which they happened.';
comment on column public.credit_transactions.account_id is 'credit_accounts.id. Accounts are never deleted.';
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
'Who asked: the API role, the login of a direct session, or system for maintenance. No personal data.';
comment on column public.credit_transactions.idempotency_key is
'The caller''s key, unique in the account, holds included.';
comment on column public.credit_transactions.request_hash is 'SHA-256 of the request that came with the key.';
comment on column public.credit_transactions.metadata is 'The caller''s JSON object, at most 8 KiB.';

-- sql/ledger/credit_holds.sql
create table public.credit_holds (
  id uuid primary key default gen_random_uuid(),
  account_id uuid not null references public.credit_accounts (id),
  status public.hold_status not null default 'held',
  operation text not null,
  quantity integer not null,
  unit_price numeric not null,
  price_version bigint not null,
  amount bigint not null,
  expires_at timestamptz not null,
  transaction_id bigint references public.credit_transactions (id),
  release_reason text,
  closed_at timestamptz,
  idempotency_key text,
  request_hash bytea,
  metadata jsonb not null default '{}',
  created_at timestamptz not null,
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
'gives all back, and past expires_at it is swept.';
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

-- sql/ledger/credit_grants.sql
create table credits.credit_grants (
  id bigint generated always as identity primary key,
  account_id uuid not null references public.credit_accounts (id),
  transaction_id bigint not null references public.credit_transactions (id),
  amount bigint not null,
  remaining bigint not null,
  priority smallint not null default 50,
  expires_at timestamptz,
  source text not null,
  returned_from bigint references credits.credit_grants (id),
  promotional boolean not null generated always as (source in ('bonus', 'referral', 'promo')) stored,
  created_at timestamptz not null,
  constraint amount_must_be_positive check (amount > 0),
  constraint remaining_must_be_0_to_amount check (remaining between 0 and amount),
  constraint priority_must_be_0_to_100 check (priority between 0 and 100),
  constraint source_must_be_known check (
    source in ('purchase', 'subscription', 'bonus', 'referral', 'promo', 'refund')
  ),
  constraint expires_at_must_be_after_created_at check (expires_at > created_at and isfinite(expires_at))
)
with (fillfactor = 80);

create index credit_grants_live on credits.credit_grants (account_id) where remaining > 0;
create index credit_grants_transaction_id on credits.credit_grants (transaction_id);

alter table credits.credit_grants enable row level security;
alter table credits.credit_grants force row level security;
revoke all on table credits.credit_grants from anon, authenticated, service_role;

comment on table credits.credit_grants is
'Lots: what each grant brought and what is left of it. As of the account''s last settlement; '
'credits.lots_as_of_now(account) tells it for this moment.';
comment on column credits.credit_grants.transaction_id is
'The grant''s ledger row, or the refund''s whose lot had expired.';
comment on column credits.credit_grants.amount is 'Credits at the start.';
comment on column credits.credit_grants.remaining is 'amount less the sum of its credit_allocations.';
comment on column credits.credit_grants.priority is '0 burns first, 100 last.';
comment on column credits.credit_grants.expires_at is 'From then on it cannot be spent; null for never.';
comment on column credits.credit_grants.source is 'Where the credits came from.';
comment on column credits.credit_grants.returned_from is
'The expired lot whose credits a refund gave back as this one.';
comment on column credits.credit_grants.promotional is
'Given, not paid for; burns before paid lots of the same priority and expiry.';

-- sql/ledger/credit_allocations.sql
create table credits.credit_allocations (
  id bigint generated always as identity,
  -- No foreign keys: they would double the time of a settlement, and nothing that they point to is ever deleted.
  -- verify_ledger looks for allocations that belong to nothing.
  transaction_id bigint not null,
  grant_id bigint not null,
  amount bigint not null,
  constraint credit_allocations_pkey primary key (transaction_id, id),
  constraint amount_must_not_be_0 check (amount <> 0)
);

create index credit_allocations_grant_id on credits.credit_allocations (grant_id);

alter table credits.credit_allocations enable row level security;
alter table credits.credit_allocations force row level security;
revoke all on table credits.credit_allocations from anon, authenticated, service_role;

comment on table credits.credit_allocations is
'Which lot paid for which transaction. Written by settlement; a transaction that is not there yet is not settled.';
comment on column credits.credit_allocations.id is
'Rises in the order in which lots were taken. A lot can pay for a debt twice, when a refund fills it again in between.';
comment on column credits.credit_allocations.amount is
'Credits taken from the lot; negative where a refund put them back.';

-- sql/ledger/ledger_seals.sql
create table credits.ledger_seals (
  account_id uuid not null references public.credit_accounts (id),
  number integer not null,
  through_id bigint not null,
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
'Tamper evidence: for each account a chain of hashes over batches of its ledger rows. Export the newest hash to '
'another system and nobody can rewrite the past unseen.';
comment on column credits.ledger_seals.number is '1, 2, 3 within the account.';
comment on column credits.ledger_seals.through_id is
'The last ledger row of the batch; it begins after the previous seal''s.';
comment on column credits.ledger_seals.entries is 'Rows in the batch.';
comment on column credits.ledger_seals.hash is 'credits.seal_hash(previous hash, the batch''s rows).';

-- sql/ledger/refuse_change.sql
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

create trigger append_only before update or delete on public.credit_transactions
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on public.credit_transactions
for each statement execute function credits.refuse_change();

create trigger append_only before update or delete on credits.credit_allocations
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.credit_allocations
for each statement execute function credits.refuse_change();

create trigger append_only before update or delete on credits.ledger_seals
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.ledger_seals
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
create trigger no_delete before delete on public.credit_holds
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on public.credit_holds
for each statement execute function credits.refuse_change();

-- sql/usage/daily_usage.sql
create table credits.daily_usage (
  account_id uuid not null references public.credit_accounts (id),
  day date not null,
  operation text not null,
  transactions bigint not null,
  quantity bigint not null,
  spent bigint not null,
  refunded bigint not null,
  constraint daily_usage_pkey primary key (account_id, day, operation)
);

alter table credits.daily_usage enable row level security;
alter table credits.daily_usage force row level security;
revoke all on table credits.daily_usage from anon, authenticated, service_role;

comment on table credits.daily_usage is
'Spends, captures and refunds rolled up by account, UTC day and operation. Kept by settlement, so it lacks what is not '
'settled yet.';
comment on column credits.daily_usage.day is 'UTC.';
comment on column credits.daily_usage.transactions is 'Spends and captures.';
comment on column credits.daily_usage.quantity is 'Units bought.';
comment on column credits.daily_usage.spent is 'Credits spent.';
comment on column credits.daily_usage.refunded is 'Credits refunded, on the day of the refund.';

-- sql/usage/usage_logs.sql
create table credits.usage_logs (
  id bigint generated always as identity primary key,
  account_id uuid not null references public.credit_accounts (id),
  provider text not null,
  model text not null,
  operation text not null,
  units numeric not null,
  latency_ms integer,
  status text not null,
  provider_cost numeric,
  hold_id uuid references public.credit_holds (id),
  transaction_id bigint references public.credit_transactions (id),
  created_at timestamptz not null default clock_timestamp(),
  constraint units_must_not_be_negative check (units >= 0 and units < 'infinity'),
  constraint latency_ms_must_not_be_negative check (latency_ms >= 0),
  constraint status_must_be_known check (status in ('succeeded', 'partial', 'refused', 'failed', 'unknown')),
  constraint provider_cost_must_not_be_negative check (provider_cost >= 0 and provider_cost < 'infinity')
);

create index usage_logs_account_id on credits.usage_logs (account_id, id desc);
create index usage_logs_hold_id on credits.usage_logs (hold_id) where hold_id is not null;
create index usage_logs_transaction_id on credits.usage_logs (transaction_id) where transaction_id is not null;

alter table credits.usage_logs enable row level security;
alter table credits.usage_logs force row level security;
revoke all on table credits.usage_logs from anon, authenticated, service_role;

comment on table credits.usage_logs is
'One row a provider call. No prompt, no output, no personal data. Clients do not see it: it holds what providers cost.';
comment on column credits.usage_logs.units is 'What the provider delivered, in the price''s unit.';
comment on column credits.usage_logs.latency_ms is 'From the request to the last byte, milliseconds.';
comment on column credits.usage_logs.status is
'succeeded, partial (fewer units than asked), refused (by the provider''s policy), failed, unknown (no answer came).';
comment on column credits.usage_logs.provider_cost is 'What the provider charges for the call, US dollars.';
comment on column credits.usage_logs.hold_id is 'The hold that the call ran under.';
comment on column credits.usage_logs.transaction_id is 'The spend or capture that paid for it.';

-- sql/pricing/version_price.sql
create function credits.version_price() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
begin
  if tg_op = 'UPDATE' then
    if new is not distinct from old then
      return new;
    end if;
    -- A price in force that is edited with a future date: what is in force stays in a row of its own until then.
    if old.active and old.effective_from <= moment and new.effective_from > moment then
      insert into public.pricing_tiers (
        operation, provider, model, unit, credits_per_unit, effective_from, active, metadata
      )
      values (
        old.operation, old.provider, old.model, old.unit, old.credits_per_unit,
        -- The old date is still taken by the row that is being changed.
        old.effective_from + interval '1 microsecond', true, old.metadata
      );
    end if;
  end if;
  new.version := nextval(pg_get_serial_sequence('credits.pricing_tier_history', 'version'));
  return new;
end
$$;

comment on function credits.version_price() is
'Gives each changed price a new version, and keeps the price in force when an edit schedules its successor.';

create trigger version_price before insert or update on public.pricing_tiers
for each row execute function credits.version_price();

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
'that prices a call. Every spend runs it: without a SET clause it is planned as part of its caller, and one unit is '
'priced without looking up the limit.';

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

-- sql/ledger/lots_in_burn_order.sql
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
where g.remaining > 0;

revoke all on table credits.lots_in_burn_order from anon, authenticated, service_role;

comment on view credits.lots_in_burn_order is
'Lots with something left, and the order in which an account''s lots burn: by priority, then earliest expiry, then '
'promotional before paid, then oldest. The one place that says so. As of the last settlement.';

-- sql/ledger/lots_as_of_now.sql
create function credits.lots_as_of_now(account_id uuid) returns table (
  id bigint,
  remaining bigint,
  expires_at timestamptz,
  source text
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

-- sql/ledger/due_expiries.sql
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

-- sql/ledger/next_expiry.sql
create function credits.next_expiry(account_id uuid, moment timestamptz) returns timestamptz
language sql
stable
set search_path = ''
as $$
  select least(
    (
      select min(g.expires_at)
      from credits.credit_grants as g
      where g.account_id = next_expiry.account_id and g.remaining > 0 and g.expires_at > moment
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
  updated_at timestamptz
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
    a.updated_at
  from public.credit_accounts as a
  cross join lateral credits.account_position(a) as p
  where a.user_id = auth.uid();
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
  updated_at
from credits.my_position();

revoke all on table public.user_credits from anon, authenticated, service_role;
grant select on table public.user_credits to authenticated;

comment on view public.user_credits is
'The signed-in user''s credits, one row: balance, available (balance - held), held and lifetime totals, in credits. '
'As of now: what has expired is not counted, settled or not.';

-- sql/ledger/available.sql
create function credits.available(balance bigint, held bigint) returns bigint
language sql
immutable
as $$
  select greatest(0, balance - held);
$$;

comment on function credits.available(bigint, bigint) is
'credit_accounts.available of a balance and what is held of it, in credits. Spends and holds subtract from it instead, '
'where its type refuses to go below 0.';

-- sql/ledger/post_entry.sql
create function credits.post_entry(
  account_id uuid,
  kind public.transaction_kind,
  amount bigint,
  related_id bigint default null,
  operation text default null,
  idempotency_key text default null,
  request_hash bytea default null,
  metadata jsonb default '{}',
  actor text default coalesce(auth.role(), session_user),
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
    unsettled_since = coalesce(a.unsettled_since, credits.now()),
    -- The account was settled before, so nothing has expired yet that this row could see as alive.
    updated_at = coalesce(post_entry.moment, least(credits.now(), a.next_expiry - interval '1 microsecond'))
  where a.id = post_entry.account_id
  returning a.* into account;

  insert into public.credit_transactions (
    account_id, kind, amount, balance_after, operation, related_id, actor, idempotency_key, request_hash, metadata,
    created_at
  )
  values (
    post_entry.account_id, post_entry.kind, post_entry.amount, account.balance, post_entry.operation,
    post_entry.related_id, post_entry.actor, post_entry.idempotency_key, post_entry.request_hash, post_entry.metadata,
    account.updated_at
  )
  returning * into entry;
  return entry;
end
$$;

comment on function credits.post_entry is
'Changes a balance and writes the ledger row that says so, for a grant, refund, clawback or expiry. Checks nothing but '
'the constraints. The caller holds the account''s lock. consume_credits and capture_hold write their own rows, in one '
'UPDATE with their conditions. moment: when it happened, for an expiry.';

-- sql/ledger/allocate_pending.sql
create function credits.allocate_pending(
  account_id uuid,
  usable_from timestamptz default null,
  preferred_lot bigint default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  first_id bigint;
  settled bigint;
  last_entry_at timestamptz;
  first_unpaid bigint;
begin
  select least(a.debt_from, a.settled_through + 1), a.settled_through
  into first_id, settled
  from public.credit_accounts as a
  where a.id = allocate_pending.account_id;

  -- Nothing fell due between these rows, or the one after it would have settled first: so a lot that is alive at the
  -- last of them was alive at each.
  select t.created_at into last_entry_at
  from public.credit_transactions as t
  where t.account_id = allocate_pending.account_id and t.id >= first_id
  order by t.id desc
  limit 1;
  if not found then
    return;
  end if;

  with pending as (
    select
      t.id,
      d.due,
      sum(d.due) over (order by t.id) as through
    from public.credit_transactions as t
    cross join lateral (
      select -t.amount - case
        -- Only an old debt can be partly paid.
        when t.id > settled then 0
        else (select coalesce(sum(x.amount), 0) from credits.credit_allocations as x where x.transaction_id = t.id)
      end as due
    ) as d
    where t.account_id = allocate_pending.account_id and t.id >= first_id and t.amount < 0 and d.due > 0
  ),

  lots as (
    select
      l.id,
      l.remaining,
      sum(l.remaining) over (
        order by
          coalesce(l.id = preferred_lot, false) desc,
          -- Credits that only a hold keeps go before those that would stay.
          -- They go as the holds rest on them: what expired first first, or a hold made later would lose its own.
          case when l.expires_at <= last_entry_at then l.expires_at end nulls last,
          l.burn_position
      ) as through
    from credits.lots_in_burn_order as l
    where
      l.account_id = allocate_pending.account_id
      and (l.expires_at is null or l.expires_at > coalesce(usable_from, last_entry_at))
  ),

  -- Debits and lots laid end to end: a lot pays for a debit where the two overlap.
  paid as (
    insert into credits.credit_allocations (transaction_id, grant_id, amount)
    select p.id, l.id, least(p.through, l.through) - greatest(p.through - p.due, l.through - l.remaining)
    from pending as p
    inner join lots as l on p.through - p.due < l.through and l.through - l.remaining < p.through
    order by p.through, l.through
    returning credit_allocations.grant_id, credit_allocations.amount
  ),

  burned as (
    update credits.credit_grants as g set remaining = g.remaining - b.amount
    from (select p.grant_id, sum(p.amount) as amount from paid as p group by p.grant_id) as b
    where g.id = b.grant_id
  )

  select min(p.id) into first_unpaid
  from pending as p
  where p.through > (select coalesce(sum(l.remaining), 0) from lots as l);

  update public.credit_accounts as a set debt_from = first_unpaid
  where a.id = allocate_pending.account_id and a.debt_from is distinct from first_unpaid;
end
$$;

comment on function credits.allocate_pending(uuid, timestamptz, bigint) is
'First part of a settlement: pays the debits that no lot has paid yet from the lots, oldest debit first, in burn '
'order. usable_from lets lots be used that had expired by then no more; preferred_lot goes first. What the lots cannot '
'pay (a clawback''s debt) waits for the next grant. The caller holds the account''s lock.';

-- sql/ledger/expire_due.sql
create function credits.expire_due(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  freed bigint;
  lot record;
begin
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
    select d.grant_id, d.credits, g.transaction_id
    from credits.due_expiries(expire_due.account_id, moment) as d
    inner join credits.credit_grants as g on d.grant_id = g.id
    where d.credits > 0
    order by d.expired_at, d.grant_id
  loop
    with entry as (
      select e.id
      from credits.post_entry(
        expire_due.account_id, 'expiry', -lot.credits, related_id => lot.transaction_id, actor => 'system', moment => moment
      ) as e
    )

    insert into credits.credit_allocations (transaction_id, grant_id, amount)
    select entry.id, lot.grant_id, lot.credits from entry;
    update credits.credit_grants as g set remaining = g.remaining - lot.credits where g.id = lot.grant_id;
  end loop;

  update public.credit_accounts as a
  set
    lapsed = (
      select coalesce(sum(g.remaining), 0)
      from credits.credit_grants as g
      where g.account_id = a.id and g.remaining > 0 and g.expires_at <= moment
    ),
    next_expiry = credits.next_expiry(a.id, moment),
    updated_at = moment
  where a.id = expire_due.account_id;
end
$$;

comment on function credits.expire_due(uuid) is
'Second part of a settlement: ends the holds whose time is over, writes off the lots that have expired (one expiry row '
'a lot) and notes when to look again. The caller holds the account''s lock and has allocated what was pending.';

-- sql/ledger/ledger_line.sql
create function credits.ledger_line(entry public.credit_transactions) returns text
language sql
stable
as $$
  select row(
    entry.id, entry.account_id, entry.kind, entry.amount, entry.balance_after, entry.operation, entry.quantity,
    entry.unit_price, entry.price_version, entry.hold_id, entry.related_id, entry.actor, entry.idempotency_key,
    encode(entry.request_hash, 'hex'), entry.metadata, extract(epoch from entry.created_at)
  )::text;
$$;

comment on function credits.ledger_line(public.credit_transactions) is
'A ledger row as one line of text, the same in every session whatever its time zone or date style.';

-- sql/ledger/seal_hash.sql
create function credits.seal_hash(previous bytea, lines text) returns bytea
language sql
immutable
as $$
  select sha256(coalesce(previous, '') || convert_to(lines, 'UTF8'));
$$;

comment on function credits.seal_hash(bytea, text) is
'SHA-256 over the previous seal''s hash and the batch''s ledger lines, in order of id, joined by newlines.';

-- sql/ledger/seal_pending.sql
create function credits.seal_pending(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  settled bigint;
  last_id bigint;
  batch_size integer;
  lines text;
begin
  select a.settled_through into settled from public.credit_accounts as a where a.id = seal_pending.account_id;

  select count(*), max(t.id), string_agg(credits.ledger_line(t), e'\n' order by t.id)
  into batch_size, last_id, lines
  from public.credit_transactions as t
  where t.account_id = seal_pending.account_id and t.id > settled;
  if batch_size = 0 then
    return;
  end if;

  insert into credits.ledger_seals (account_id, number, through_id, entries, hash, sealed_at)
  select
    seal_pending.account_id,
    coalesce(max(s.number), 0) + 1,
    last_id,
    batch_size,
    credits.seal_hash((array_agg(s.hash))[1], lines),
    credits.now()
  from (
    select p.number, p.hash from credits.ledger_seals as p
    where p.account_id = seal_pending.account_id
    order by p.number desc
    limit 1
  ) as s;

  insert into credits.daily_usage as u (account_id, day, operation, transactions, quantity, spent, refunded)
  select
    t.account_id,
    (t.created_at at time zone 'UTC')::date,
    t.operation,
    count(*) filter (where t.amount < 0),
    coalesce(sum(t.quantity) filter (where t.amount < 0), 0),
    coalesce(-sum(t.amount) filter (where t.amount < 0), 0),
    coalesce(sum(t.amount) filter (where t.amount > 0), 0)
  from public.credit_transactions as t
  where t.account_id = seal_pending.account_id and t.id > settled and t.operation is not null
  group by 1, 2, 3
  on conflict on constraint daily_usage_pkey do update set
    transactions = u.transactions + excluded.transactions,
    quantity = u.quantity + excluded.quantity,
    spent = u.spent + excluded.spent,
    refunded = u.refunded + excluded.refunded;

  update public.credit_accounts as a set settled_through = last_id, unsettled_since = null
  where a.id = seal_pending.account_id;
end
$$;

comment on function credits.seal_pending(uuid) is
'Last part of a settlement: adds the ledger rows since the last one to the daily usage and chains a seal over them. '
'The caller holds the account''s lock.';

-- sql/ledger/settle_account.sql
create function credits.settle_account(
  account_id uuid,
  usable_from timestamptz default null,
  preferred_lot bigint default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  due boolean;
begin
  perform credits.allocate_pending(account_id, usable_from, preferred_lot);
  select a.lapsed > 0 or a.next_expiry <= credits.now() into due
  from public.credit_accounts as a
  where a.id = settle_account.account_id;
  if due then
    perform credits.expire_due(account_id);
  end if;
  perform credits.seal_pending(account_id);
end
$$;

comment on function credits.settle_account(uuid, timestamptz, bigint) is
'Brings lots, expiry, daily usage and seals up to the newest ledger row, so that they are as if each spend had done it '
'at once. The caller holds the account''s lock. usable_from and preferred_lot: see credits.allocate_pending.';

-- sql/ledger/lock_account.sql
create function credits.lock_account(account_id uuid) returns public.credit_accounts
language plpgsql
set search_path = ''
as $$
declare
  account public.credit_accounts;
begin
  perform from public.credit_accounts as a where a.id = lock_account.account_id for no key update;
  perform credits.settle_account(account_id);
  select * into account from public.credit_accounts as a where a.id = lock_account.account_id;
  return account;
end
$$;

comment on function credits.lock_account(uuid) is
'Takes the account''s row lock until the transaction ends and settles the account. Everything that changes lots, and '
'every refusal of a spend, starts here.';

-- sql/ledger/request_hash.sql
create function credits.request_hash(variadic request text[]) returns bytea
language sql
stable
as $$
  select sha256(convert_to(request::text, 'UTF8'));
$$;

comment on function credits.request_hash(text[]) is
'SHA-256 that tells whether two requests with the same idempotency key are the same: the call''s name, then each '
'argument.';

-- sql/ledger/refuse_key.sql
create function credits.refuse_key(idempotency_key text) returns bytea
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
'Why a caller may not use the idempotency key, as PT400: its length, or that it is of the kind that the ledger itself '
'uses, so that no caller can take the key of a bonus or a payment beforehand.';

-- sql/ledger/keyed_hash.sql
create function credits.keyed_hash(idempotency_key text, variadic request text[]) returns bytea
language sql
stable
as $$
  select case
    when idempotency_key is null then null
    when char_length(idempotency_key) between 1 and 255 and not starts_with(idempotency_key, 'sys:')
    then credits.request_hash(variadic request)
    else credits.refuse_key(idempotency_key)
  end;
$$;

comment on function credits.keyed_hash(text, text[]) is
'credits.request_hash of a call that came with an idempotency key; null without one; PT400 for a key that a caller may '
'not use. Planned as part of its caller, for want of a SET clause.';

-- sql/ledger/key_is_new.sql
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

-- sql/ledger/replayed.sql
create function credits.replayed(
  account_id uuid,
  idempotency_key text,
  request_hash bytea,
  out entry public.credit_transactions,
  out hold public.credit_holds
)
language plpgsql
set search_path = ''
as $$
begin
  if idempotency_key is null then
    return;
  end if;
  -- A call with this key that is under way holds the lock; from here on its row can be seen, or it has failed.
  perform from public.credit_accounts as a where a.id = replayed.account_id for no key update;

  select t.* into entry from public.credit_transactions as t
  where t.account_id = replayed.account_id and t.idempotency_key = replayed.idempotency_key;
  select h.* into hold from public.credit_holds as h
  where h.account_id = replayed.account_id and h.idempotency_key = replayed.idempotency_key;
  if coalesce(entry.request_hash, hold.request_hash) <> request_hash then
    perform credits.fail(
      'PT409', 'This idempotency_key was used for another request.',
      jsonb_build_object('idempotency_key', idempotency_key), 'Use a new key for a new request.'
    );
  end if;
end
$$;

comment on function credits.replayed(uuid, text, bytea) is
'What the same request wrote before with this idempotency key of the account: a ledger row or a hold; nulls for a new '
'key or none. With a key it takes the account''s row lock, so that no other session can use it meanwhile. PT409: the '
'key came with another request.';

-- sql/ledger/pay_debt.sql
create function credits.pay_debt(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select from public.credit_accounts as a where a.id = pay_debt.account_id and a.debt_from is not null
  ) then
    perform credits.settle_account(account_id);
  end if;
end
$$;

comment on function credits.pay_debt(uuid) is
'Pays from new credits what a clawback had left unpaid. The caller holds the account''s lock.';

-- sql/ledger/add_lot.sql
create function credits.add_lot(
  entry public.credit_transactions,
  amount bigint,
  source text,
  expires_at timestamptz,
  priority integer,
  returned_from bigint default null
) returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into credits.credit_grants (
    account_id, transaction_id, amount, remaining, source, expires_at, priority, returned_from, created_at
  )
  values (
    entry.account_id, entry.id, add_lot.amount, add_lot.amount, add_lot.source, add_lot.expires_at,
    coalesce(add_lot.priority, 50), add_lot.returned_from, entry.created_at
  );
end
$$;

comment on function credits.add_lot is
'Opens a lot for what the ledger row brought in. The caller sets the account''s next_expiry and pays its '
'debt.';

-- sql/ledger/grant_to_account.sql
create function credits.grant_to_account(
  account_id uuid,
  amount bigint,
  source text,
  expires_at timestamptz,
  priority integer,
  idempotency_key text,
  request_hash bytea,
  metadata jsonb
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
  elsif source is null or source not in ('purchase', 'subscription', 'bonus', 'referral', 'promo', 'refund') then
    perform credits.fail(
      'PT400', 'source must be purchase, subscription, bonus, referral, promo or refund.',
      jsonb_build_object('source', left(source, 100)), 'It says where the credits come from.'
    );
  elsif priority not between 0 and 100 then
    perform credits.fail(
      'PT400', 'priority must be from 0 (burns first) to 100.', jsonb_build_object('priority', priority),
      'Leave it out for 50.'
    );
  end if;

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
    request_hash => case when idempotency_key is not null then coalesce(request_hash, credits.request_hash(idempotency_key)) end,
    metadata => metadata
  );
  -- Only now is the moment of the grant known: it may have waited for the account's lock.
  if not coalesce(isfinite(expires_at) and expires_at > entry.created_at, true) then
    perform credits.fail(
      'PT400', 'expires_at must be in the future.', jsonb_build_object('expires_at', expires_at),
      'Leave it out for credits that never expire.'
    );
  end if;
  perform credits.add_lot(entry, amount, source, expires_at, priority);
  update public.credit_accounts as a set next_expiry = least(a.next_expiry, grant_to_account.expires_at)
  where a.id = grant_to_account.account_id and grant_to_account.expires_at is not null;
  perform credits.pay_debt(account_id);
  return entry;
end
$$;

comment on function credits.grant_to_account is
'Grants credits to an account as one lot; returns the ledger row. The one way credits come in: grant_credits, the '
'sign-up bonus and payments end here. Locks and settles the account. Errors: PT400.';

-- sql/accounts/open_account.sql
create function credits.open_account(user_id uuid) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  account uuid;
  settings credits.billing_settings;
begin
  select a.id into account from public.credit_accounts as a where a.user_id = open_account.user_id;
  if found then
    return account;
  end if;

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
    return (select a.id from public.credit_accounts as a where a.user_id = open_account.user_id);
  end if;
  select * into settings from credits.billing_settings;
  if settings.signup_bonus > 0 then
    perform credits.grant_to_account(
      account, settings.signup_bonus, 'bonus', credits.now() + settings.signup_bonus_lifetime, null, 'sys:signup_bonus',
      null, '{}'
    );
  end if;
  return account;
end
$$;

comment on function credits.open_account(uuid) is
'Opens the user''s account with the sign-up bonus, or finds it; returns its id. Safe to call twice, also at once. '
'PT404 for a user that does not exist.';

-- sql/accounts/handle_new_user.sql
create function credits.handle_new_user() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform credits.open_account(new.id);
  return null;
exception
  when others then
    -- A user who cannot sign up is worse than one whose account opens at the first call.
    raise warning 'credits: no account for user % yet: %', new.id, sqlerrm;
    return null;
end
$$;

comment on function credits.handle_new_user() is
'Opens an account for each new user. Never blocks the sign-up: what fails here is done at the user''s first call.';

create trigger open_credit_account after insert on auth.users
for each row execute function credits.handle_new_user();

-- sql/ledger/make_spendable.sql
create function credits.make_spendable(user_id uuid, required bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  account_id uuid := credits.open_account(user_id);
  account public.credit_accounts;
begin
  select a.* into account
  from public.credit_accounts as a
  where a.id = account_id
  for no key update;
  if account.next_expiry <= credits.now() then
    account := credits.lock_account(account.id);
  end if;

  if account.frozen_at is not null then
    perform credits.fail(
      'PT403', 'The account is frozen.', jsonb_build_object('frozen_at', account.frozen_at), 'Ask the app''s support.'
    );
  elsif account.available < required then
    perform credits.fail(
      'PT402', 'Not enough credits.',
      jsonb_build_object(
        'required', required,
        'available', account.balance - account.held,
        'shortfall', required - (account.balance - account.held)
      ),
      'Buy credits, or ask for less.'
    );
  end if;
end
$$;

comment on function credits.make_spendable(uuid, bigint) is
'What a spend or a hold calls when its UPDATE matched nothing: opens the account where there is none, settles what is '
'due, and either returns, with the account locked, for another try, or says why not: PT402 (details: required, '
'available, shortfall, in credits) or PT403.';

-- sql/ledger/lock_hold.sql
create function credits.lock_hold(hold_id uuid) returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  hold public.credit_holds;
  account record;
begin
  -- The account first, then its holds: the order in which everything here locks.
  select a.id, a.lapsed > 0 or a.next_expiry <= credits.now() as due into account
  from public.credit_accounts as a
  inner join public.credit_holds as h on a.id = h.account_id
  where h.id = lock_hold.hold_id
  for no key update of a;
  if account.due then
    perform credits.lock_account(account.id);
  end if;
  select * into hold from public.credit_holds as h where h.id = lock_hold.hold_id;
  if not found then
    perform credits.fail('PT404', 'There is no such hold.', jsonb_build_object('hold_id', hold_id), 'Check the hold id.');
  end if;
  return hold;
end
$$;

comment on function credits.lock_hold(uuid) is
'The hold as it is now, with its account locked until the transaction ends and settled if anything was due. PT404.';

-- sql/ledger/return_to_lots.sql
create function credits.return_to_lots(entry public.credit_transactions) returns void
language plpgsql
set search_path = ''
as $$
declare
  still_to_return bigint := entry.amount;
  grace timestamptz;
  lot record;
  part bigint;
begin
  select entry.created_at + s.refund_grace into grace from credits.billing_settings as s;

  -- The lot that burned last is filled first, as if less had been spent.
  for lot in
    with refunds as (
      select t.id from public.credit_transactions as t
      where t.related_id = entry.related_id and t.kind = 'refund'
    ),

    paid as (
      select
        x.grant_id,
        max(x.id) as last_paid,
        sum(x.amount) as amount
      from credits.credit_allocations as x
      where x.transaction_id = entry.related_id
      group by x.grant_id
    )

    -- What no lot has paid for yet, a debt, goes back before any of them.
    select
      null as id,
      null as expires_at,
      null as priority,
      -spent.amount - coalesce((select sum(p.amount) from paid as p), 0) as left_to_return,
      null as last_paid
    from public.credit_transactions as spent
    where spent.id = entry.related_id
    union all
    select
      g.id,
      g.expires_at,
      g.priority,
      p.amount
      + coalesce((
        select sum(r.amount) from credits.credit_allocations as r
        where r.grant_id = g.id and r.transaction_id in (select refunds.id from refunds)
      ), 0)
      - coalesce((
        select sum(n.amount) from credits.credit_grants as n
        where n.returned_from = g.id and n.transaction_id in (select refunds.id from refunds)
      ), 0),
      p.last_paid
    from paid as p
    inner join credits.credit_grants as g on p.grant_id = g.id
    order by last_paid desc nulls first
  loop
    part := least(still_to_return, lot.left_to_return);
    continue when part <= 0;
    still_to_return := still_to_return - part;
    if lot.id is null or lot.expires_at <= entry.created_at then
      perform credits.add_lot(entry, part, 'refund', grace, lot.priority, lot.id);
    else
      insert into credits.credit_allocations (transaction_id, grant_id, amount) values (entry.id, lot.id, -part);
      update credits.credit_grants as g set remaining = g.remaining + part where g.id = lot.id;
    end if;
  end loop;

  update public.credit_accounts as a set next_expiry = credits.next_expiry(a.id, entry.created_at)
  where a.id = entry.account_id;
  perform credits.pay_debt(entry.account_id);
end
$$;

comment on function credits.return_to_lots(public.credit_transactions) is
'Puts the credits of a refund back into the lots that paid for its transaction; for lots that have expired since, into '
'new lots that live for billing_settings.refund_grace. The caller holds '
'the account''s lock and has settled it.';

-- sql/ledger/claw_back.sql
create function credits.claw_back(
  account_id uuid,
  amount bigint,
  grant_transaction_id bigint default null,
  idempotency_key text default null,
  metadata jsonb default '{}'
) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  most bigint;
  hash bytea;
  lot_id bigint;
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
  end if;
  if idempotency_key is not null then
    hash := credits.request_hash('claw_back', amount::text, grant_transaction_id::text, metadata::text);
  end if;
  entry := (credits.replayed(account_id, idempotency_key, hash)).entry;
  if entry.id is not null then
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
    inner join public.credit_transactions as t on g.transaction_id = t.id
    where t.id = grant_transaction_id and t.kind = 'grant' and g.account_id = claw_back.account_id;
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
    request_hash => hash,
    metadata => metadata
  );
  perform credits.settle_account(account_id, usable_from => '-infinity', preferred_lot => lot_id);
  return entry;
end
$$;

comment on function credits.claw_back(uuid, bigint, bigint, text, jsonb) is
'Internal: takes back amount credits from an account because their payment was refunded or disputed; returns the '
'ledger row. Takes from the named grant''s lot first, then from the others in burn order, then below zero: the next '
'grant pays that off. Errors: PT400, PT404, PT409 as elsewhere.';

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
  update public.credit_accounts as a
  set
    frozen_at = coalesce(a.frozen_at, credits.now()),
    frozen_reason = reason,
    updated_at = credits.now()
  where a.id = account_id
  returning a.* into account;
  return account;
end
$$;

comment on function public.freeze_account(uuid, text) is
'Operator: stops the user''s spends and holds (PT403) until unfreeze_account. Grants, refunds and captures of '
'earlier holds go on. Calling it again changes the reason only. Errors: PT400 no reason, PT404 no such user.';

grant execute on function public.freeze_account(uuid, text) to service_role;

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

-- sql/pricing/quote_credits.sql
create function public.quote_credits(operation text, quantity integer default 1) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  price record;
  available bigint;
  frozen boolean;
begin
  perform credits.caller();
  select * into price from credits.price(operation, quantity);
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

comment on function public.quote_credits(text, integer) is
'What the operation would cost the signed-in user now, without spending: {operation, quantity, credits, price_version, '
'available, affordable}. Not affordable while the account is frozen. Errors: PT400 quantity, PT403 not signed in, '
'PT404 unknown operation.';

grant execute on function public.quote_credits(text, integer) to authenticated;

-- sql/ledger/consume_credits.sql
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
  price record;
  hash bytea;
  account record;
  entry public.credit_transactions;
begin
  if metadata is distinct from '{}' then
    perform credits.check_metadata(metadata);
  end if;

  if idempotency_key is not null then
    hash := credits.keyed_hash(idempotency_key, 'consume_credits', operation, quantity::text, metadata::text);
  end if;
  select * into price from credits.price(operation, quantity);

  -- Everything that needs no lock is done: the account's row is locked from here to the commit.
  loop
    update public.credit_accounts as a
    set
      balance = a.balance - price.credits,
      available = a.available - price.credits,
      lifetime_spent = a.lifetime_spent + price.credits,
      unsettled_since = coalesce(a.unsettled_since, credits.now()),
      -- The moment of the spend, which the condition below has found to be before the next expiry.
      updated_at = least(credits.now(), a.next_expiry - interval '1 microsecond')
    where
      a.user_id = me
      and a.available >= price.credits
      and a.frozen_at is null
      and (a.next_expiry is null or a.next_expiry > credits.now())
      and (consume_credits.idempotency_key is null or credits.key_is_new(a.id, consume_credits.idempotency_key))
    returning a.id, a.balance, a.updated_at into account;
    exit when found;

    entry := (credits.replayed(credits.open_account(me), idempotency_key, hash)).entry;
    if entry.id is not null then
      return entry;
    elsif price.credits is null then
      perform credits.refuse_price(operation, quantity);
    end if;
    perform credits.make_spendable(me, price.credits);
  end loop;

  insert into public.credit_transactions (
    account_id, kind, amount, balance_after, operation, quantity, unit_price, price_version, actor, idempotency_key,
    request_hash, metadata, created_at
  )
  values (
    account.id, 'spend', -price.credits, account.balance, consume_credits.operation, consume_credits.quantity,
    price.credits_per_unit, price.version, 'authenticated', consume_credits.idempotency_key, hash,
    consume_credits.metadata, account.updated_at
  )
  returning * into entry;
  return entry;
end
$$;

comment on function public.consume_credits(text, integer, text, jsonb) is
'Spends the signed-in user''s credits on quantity units of the operation, at the price in force; returns the ledger '
'row. With idempotency_key a repeat returns the first row and charges nothing. Errors: PT400 bad argument, PT402 not '
'enough credits (details: required, available, shortfall), PT403 not signed in or frozen, PT404 unknown operation, '
'PT409 key used for another request. A refused call leaves nothing behind, its key included.';

grant execute on function public.consume_credits(text, integer, text, jsonb) to authenticated;

-- sql/ledger/hold_credits.sql
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
  settings credits.billing_settings;
  lifetime interval;
  price record;
  hash bytea;
  account record;
  hold public.credit_holds;
begin
  perform credits.check_metadata(metadata);
  select * into settings from credits.billing_settings;
  lifetime := coalesce(ttl, settings.hold_ttl);
  if not (lifetime > '0' and lifetime <= settings.hold_ttl_max) then
    perform credits.fail(
      'PT400', format('ttl must be over 0 and at most %s.', settings.hold_ttl_max),
      jsonb_build_object('ttl', ttl, 'limit', settings.hold_ttl_max), 'Leave ttl out for the usual one.'
    );
  end if;

  hash := credits.keyed_hash(idempotency_key, 'hold_credits', operation, quantity::text, ttl::text, metadata::text);
  select * into price from credits.price(operation, quantity);

  loop
    update public.credit_accounts as a
    set
      held = a.held + price.credits,
      available = a.available - price.credits,
      next_expiry = least(a.next_expiry, credits.now() + lifetime),
      updated_at = least(credits.now(), a.next_expiry - interval '1 microsecond')
    where
      a.user_id = me
      and a.available >= price.credits
      and a.frozen_at is null
      and (a.next_expiry is null or a.next_expiry > credits.now())
      and (hold_credits.idempotency_key is null or credits.key_is_new(a.id, hold_credits.idempotency_key))
    returning a.id, a.updated_at, a.next_expiry, a.updated_at + lifetime as expires_at into account;
    exit when found;

    hold := (credits.replayed(credits.open_account(me), idempotency_key, hash)).hold;
    if hold.id is not null then
      return hold;
    elsif price.credits is null then
      perform credits.refuse_price(operation, quantity);
    end if;
    perform credits.make_spendable(me, price.credits);
  end loop;

  insert into public.credit_holds (
    account_id, operation, quantity, unit_price, price_version, amount, expires_at, idempotency_key, request_hash,
    metadata, created_at
  )
  values (
    account.id, hold_credits.operation, hold_credits.quantity, price.credits_per_unit, price.version, price.credits,
    account.expires_at, hold_credits.idempotency_key, hash, hold_credits.metadata, account.updated_at
  )
  returning * into hold;

  -- The clock may have moved on between the two columns that the UPDATE set from it.
  if account.next_expiry > hold.expires_at then
    update public.credit_accounts as a set next_expiry = hold.expires_at where a.id = account.id;
  end if;
  return hold;
end
$$;

comment on function public.hold_credits(text, integer, text, interval, jsonb) is
'Reserves the signed-in user''s credits for quantity units of the operation and pins the price; returns the hold. It '
'lives for ttl (default and longest: billing_settings). With idempotency_key a repeat returns the same hold as it is '
'now. Errors as consume_credits; PT400 also for ttl.';

grant execute on function public.hold_credits(text, integer, text, interval, jsonb) to authenticated;

-- sql/ledger/capture_hold.sql
create function public.capture_hold(
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
  cost bigint;
  account public.credit_accounts;
  entry public.credit_transactions;
begin
  perform credits.check_metadata(metadata);
  hold := credits.lock_hold(hold_id);
  used := coalesce(quantity, hold.quantity);

  if hold.status = 'captured' then
    select * into entry from public.credit_transactions as t where t.id = hold.transaction_id;
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
  cost := ceil(hold.unit_price * used);

  update public.credit_accounts as a
  set
    balance = a.balance - cost,
    held = a.held - hold.amount,
    lifetime_spent = a.lifetime_spent + cost,
    available = credits.available(a.balance - cost, a.held - hold.amount),
    unsettled_since = coalesce(a.unsettled_since, credits.now()),
    -- credits.lock_hold has found the moment to be before the next expiry.
    updated_at = least(credits.now(), a.next_expiry - interval '1 microsecond')
  where a.id = hold.account_id
  returning a.* into account;

  insert into public.credit_transactions (
    account_id, kind, amount, balance_after, operation, quantity, unit_price, price_version, hold_id, actor, metadata,
    created_at
  )
  values (
    hold.account_id, 'capture', -cost, account.balance, hold.operation, used, hold.unit_price, hold.price_version,
    hold.id, coalesce(auth.role(), session_user), capture_hold.metadata, account.updated_at
  )
  returning * into entry;

  update public.credit_holds as h
  set status = 'captured', transaction_id = entry.id, closed_at = account.updated_at
  where h.id = hold.id;

  -- Credits that had expired under holds: this hold's go first, and what no hold covers any more is written off.
  if account.lapsed > 0 then
    perform credits.settle_account(hold.account_id, usable_from => hold.created_at);
  end if;
  return entry;
end
$$;

comment on function public.capture_hold(uuid, integer, jsonb) is
'Operator: charges quantity units (default: all) of what a hold reserved, at its pinned price; the rest is free again. '
'Returns the ledger row; a repeat returns the same row. Errors: PT400 quantity, PT404 no such hold, PT409 released, '
'expired or captured with another quantity.';

grant execute on function public.capture_hold(uuid, integer, jsonb) to service_role;

-- sql/ledger/release_hold.sql
create function public.release_hold(hold_id uuid, reason text default null) returns public.credit_holds
language plpgsql
security definer
set search_path = ''
as $$
declare
  hold public.credit_holds;
  lapsed bigint;
begin
  if char_length(reason) > 500 then
    perform credits.fail('PT400', 'reason has more than 500 characters.', '{}', 'Say it shorter.');
  end if;
  hold := credits.lock_hold(hold_id);
  if hold.status = 'captured' then
    perform credits.fail(
      'PT409', 'The hold was captured; it cannot be released.',
      jsonb_build_object('hold_id', hold.id, 'transaction_id', hold.transaction_id), 'Give credits back with refund.'
    );
  elsif hold.status <> 'held' then
    return hold;
  end if;

  update public.credit_accounts as a
  set
    held = a.held - hold.amount,
    available = credits.available(a.balance, a.held - hold.amount),
    updated_at = credits.now()
  where a.id = hold.account_id
  returning a.lapsed into lapsed;

  update public.credit_holds as h
  set status = 'released', release_reason = reason, closed_at = credits.now()
  where h.id = hold.id
  returning h.* into hold;

  if lapsed > 0 then
    perform credits.settle_account(hold.account_id);
  end if;
  return hold;
end
$$;

comment on function public.release_hold(uuid, text) is
'Operator: gives back everything that a hold reserved; returns the hold. Releasing one that is released or expired '
'does nothing. Errors: PT400 reason, PT404 no such hold, PT409 captured.';

grant execute on function public.release_hold(uuid, text) to service_role;

-- sql/ledger/grant_credits.sql
create function public.grant_credits(
  user_id uuid,
  amount bigint,
  source text,
  expires_at timestamptz default null,
  priority integer default null,
  idempotency_key text default null,
  metadata jsonb default '{}'
) returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
  account_id uuid := credits.open_account(user_id);
  hash bytea := credits.keyed_hash(
    idempotency_key, 'grant_credits', amount::text, source, extract(epoch from expires_at)::text, priority::text,
    metadata::text
  );
  entry public.credit_transactions;
begin
  entry := (credits.replayed(account_id, idempotency_key, hash)).entry;
  if entry.id is not null then
    return entry;
  end if;
  return credits.grant_to_account(account_id, amount, source, expires_at, priority, idempotency_key, hash, metadata);
end
$$;

comment on function public.grant_credits(uuid, bigint, text, timestamptz, integer, text, jsonb) is
'Operator: grants amount credits to a user as one lot; returns the ledger row. source: purchase, subscription, bonus, '
'referral, promo or refund. priority: 0 burns first, 100 last, default 50. Without expires_at they never expire. '
'Errors: PT400 bad argument, PT404 no such user, PT409 key used for another request.';

grant execute on function public.grant_credits(uuid, bigint, text, timestamptz, integer, text, jsonb) to service_role;

-- sql/ledger/refund.sql
create function public.refund(
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
  hash bytea := credits.keyed_hash(idempotency_key, 'refund', transaction_id::text, amount::text, reason);
  refundable bigint;
  entry public.credit_transactions;
begin
  select * into spent from public.credit_transactions as t where t.id = refund.transaction_id;
  if not found then
    perform credits.fail(
      'PT404', 'There is no such transaction.', jsonb_build_object('transaction_id', transaction_id), 'Check the id.'
    );
  elsif spent.kind not in ('spend', 'capture') then
    perform credits.fail(
      'PT409', format('A %s cannot be refunded.', spent.kind),
      jsonb_build_object('transaction_id', transaction_id, 'kind', spent.kind), 'Only spends and captures can.'
    );
  elsif char_length(reason) > 500 then
    perform credits.fail('PT400', 'reason has more than 500 characters.', '{}', 'Say it shorter.');
  end if;

  entry := (credits.replayed(spent.account_id, idempotency_key, hash)).entry;
  if entry.id is not null then
    return entry;
  end if;

  perform credits.lock_account(spent.account_id);
  select -spent.amount - coalesce(sum(t.amount), 0) into refundable
  from public.credit_transactions as t
  where t.related_id = spent.id and t.kind = 'refund';
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
    request_hash => hash,
    metadata => jsonb_strip_nulls(jsonb_build_object('reason', reason))
  );
  perform credits.return_to_lots(entry);
  return entry;
end
$$;

comment on function public.refund(bigint, bigint, text, text) is
'Operator: gives back amount credits (default: all that is left) of a spend or a capture; returns the ledger row. They '
'go back to the lots they came from; where a lot has expired since, to a new lot that lives for '
'billing_settings.refund_grace. Errors: PT400 amount, PT404 no such transaction, PT409 nothing left, not a spend, or '
'key used for another request.';

grant execute on function public.refund(bigint, bigint, text, text) to service_role;

-- sql/ledger/verify_ledger.sql
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
    where verify_ledger.user_id is null or a.user_id = verify_ledger.user_id
  ),

  entries as (
    select
      t.*,
      lag(t.balance_after, 1, 0::bigint) over by_account as balance_before,
      coalesce((select sum(x.amount) from credits.credit_allocations as x where x.transaction_id = t.id), 0) as allocated,
      coalesce((select sum(g.amount) from credits.credit_grants as g where g.transaction_id = t.id), 0) as lots
    from public.credit_transactions as t
    where verify_ledger.user_id is null or t.account_id in (select a.id from accounts as a)
    window by_account as (partition by t.account_id order by t.id)
  ),

  totals as (
    select
      e.account_id,
      count(*) as entries,
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
    group by e.account_id
  ),

  lots as (
    select
      g.*,
      coalesce((select sum(x.amount) from credits.credit_allocations as x where x.grant_id = g.id), 0) as allocated
    from credits.credit_grants as g
    where verify_ledger.user_id is null or g.account_id in (select a.id from accounts as a)
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
    or (e.idempotency_key is null) <> (e.request_hash is null)
  union all
  select
    e.account_id,
    'only clawbacks, and captures after one, take a balance below zero',
    jsonb_build_object('transaction_id', e.id, 'kind', e.kind, 'after', e.balance_after)
  from entries as e
  where e.balance_after < least(0, e.balance_before) and e.kind not in ('clawback', 'capture')
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
  left join entries as e on h.id = e.hold_id
  where
    (h.status = 'captured') <> (e.id is not null)
    or h.transaction_id is distinct from e.id
    or -e.amount > h.amount
    or e.account_id <> h.account_id
    or e.unit_price <> h.unit_price
  union all
  select
    e.account_id,
    'a capture names a hold',
    jsonb_build_object('transaction_id', e.id, 'hold_id', e.hold_id)
  from entries as e
  where e.hold_id is not null and not exists (select from public.credit_holds as h where h.id = e.hold_id)
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
  left join public.credit_transactions as t on l.transaction_id = t.id
  where t.id is null or t.account_id <> l.account_id or t.kind not in ('grant', 'refund')
  union all
  select
    coalesce(l.account_id, t.account_id),
    'an allocation joins a lot and a ledger row of one account',
    jsonb_build_object('grant_id', x.grant_id, 'transaction_id', x.transaction_id)
  from credits.credit_allocations as x
  left join credits.credit_grants as l on x.grant_id = l.id
  left join public.credit_transactions as t on x.transaction_id = t.id
  where
    (t.account_id is distinct from l.account_id or t.id is null)
    and (
      verify_ledger.user_id is null
      or l.account_id in (select a.id from accounts as a)
      or t.account_id in (select a.id from accounts as a)
    )
  union all
  select
    e.account_id,
    'refunds do not exceed what their transaction spent',
    jsonb_build_object('transaction_id', e.id, 'spent', -e.amount, 'refunded', sum(r.amount))
  from entries as e
  inner join public.credit_transactions as r on e.id = r.related_id and r.kind = 'refund'
  group by e.account_id, e.id, e.amount, e.kind
  having sum(r.amount) > -e.amount or bool_or(r.account_id <> e.account_id) or e.kind not in ('spend', 'capture')
  union all
  select
    e.account_id,
    'a refund names a transaction that exists',
    jsonb_build_object('transaction_id', e.id, 'related_id', e.related_id)
  from entries as e
  where
    e.related_id is not null
    and not exists (select from public.credit_transactions as t where t.id = e.related_id)
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
      string_agg(credits.ledger_line(t), e'\n' order by t.id) as lines
    from public.credit_transactions as t
    where t.account_id = b.account_id and t.id > b.after_id and t.id <= b.through_id
  ) as r
  where
    b.number <> b.previous_number + 1
    or r.entries <> b.entries
    or r.last_id is distinct from b.through_id
    or b.hash <> credits.seal_hash(b.previous_hash, coalesce(r.lines, ''))
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
    jsonb_build_object('settled_through', a.settled_through, 'last_id', t.last_id)
  from accounts as a
  inner join totals as t on a.id = t.account_id
  where t.last_id > a.settled_through and a.unsettled_since is null
  union all
  select
    a.id,
    'next_expiry is not later than what expires next',
    jsonb_build_object('next_expiry', a.next_expiry, 'next', credits.next_expiry(a.id, a.updated_at))
  from accounts as a
  where not coalesce(a.next_expiry <= credits.next_expiry(a.id, a.updated_at), credits.next_expiry(a.id, a.updated_at) is null);
$$;

comment on function public.verify_ledger(uuid) is
'Operator: checks every rule of the ledger from its rows, for one user or for all; returns one row a broken invariant: '
'account, the invariant in words, figures. No row when all is well. Reads everything: run a whole check from a direct '
'connection, not through the API, once the ledger is large.';

grant execute on function public.verify_ledger(uuid) to service_role;

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
  transaction_id bigint default null
) returns credits.usage_logs
language sql
volatile
set search_path = ''
as $$
  insert into credits.usage_logs (
    account_id, provider, model, operation, units, status, latency_ms, provider_cost, hold_id, transaction_id
  )
  values (
    log_usage.account_id, log_usage.provider, log_usage.model, log_usage.operation, log_usage.units, log_usage.status,
    log_usage.latency_ms, log_usage.provider_cost, log_usage.hold_id, log_usage.transaction_id
  )
  returning *;
$$;

comment on function credits.log_usage is
'Writes one provider call to credits.usage_logs. Internal: the operator''s own SQL calls it.';

-- sql/ledger/run_maintenance.sql
create function credits.run_maintenance(
  settle_after interval default '0',
  batch integer default 200
) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  waiting uuid[];
  overdue uuid;
  candidate uuid;
  settled integer := 0;
begin
  -- No index serves this: what it would hold changes with the spends, and each would pay for it.
  select
    array_agg(due.id),
    (array_agg(due.id order by due.since) filter (where due.since < moment - settle_after - interval '1 minute'))[1]
  into waiting, overdue
  from (
    select a.id, least(a.unsettled_since, a.next_expiry) as since
    from public.credit_accounts as a
    where a.next_expiry <= moment or a.unsettled_since <= moment - settle_after
    order by since
    limit batch
  ) as due;

  -- An account that is spent from without a pause is never free when SKIP LOCKED looks. Wait for one such account,
  -- while this transaction holds no other lock that it could be waited for.
  if overdue is not null then
    perform credits.lock_account(overdue);
    settled := 1;
  end if;

  foreach candidate in array coalesce(waiting, '{}') loop
    perform from public.credit_accounts as a
    where
      a.id = candidate
      and (a.next_expiry <= moment or a.unsettled_since <= moment - settle_after)
    for no key update skip locked;
    if found then
      perform credits.settle_account(candidate);
      settled := settled + 1;
    end if;
  end loop;

  return jsonb_build_object('settled', settled, 'more', cardinality(waiting) = batch and settled > 0);
end
$$;

comment on function credits.run_maintenance(interval, integer) is
'Settles accounts in one bounded batch: those with ledger rows unsettled for settle_after or longer, and those where '
'lots or holds have expired. Skips what others have locked; run as many at once as you like. Returns {settled: '
'accounts, more: whether to call again now}.';

-- sql/ledger/schedule_maintenance.sql
create function credits.schedule_maintenance() returns text
language plpgsql
set search_path = ''
as $body$
begin
  if not exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    return 'pg_cron is not installed: enable it (Dashboard, Integrations, Cron), then: select credits.schedule_maintenance();';
  end if;
  execute $job$
    select cron.schedule(
      'credits-maintenance', '10 seconds', $$select credits.run_maintenance(settle_after => '30 seconds')$$
    )
  $job$;
  return 'Scheduled every 10 seconds as the pg_cron job credits-maintenance.';
end
$body$;

comment on function credits.schedule_maintenance() is
'Has pg_cron run credits.run_maintenance, where pg_cron is installed; says what it did. Safe to call again.';

select credits.schedule_maintenance();
