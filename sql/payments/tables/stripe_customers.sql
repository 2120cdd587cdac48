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
