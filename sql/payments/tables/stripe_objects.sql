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
