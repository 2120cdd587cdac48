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
