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
