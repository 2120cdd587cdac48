create table credits.checkout_rate (
  account_id uuid primary key references public.credit_accounts (id),
  minute timestamptz not null,
  calls integer not null
)
with (fillfactor = 50);

alter table credits.checkout_rate enable row level security;
alter table credits.checkout_rate force row level security;
revoke all on table credits.checkout_rate from anon, authenticated, service_role;

comment on table credits.checkout_rate is
'How many pages of Stripe''s an account has opened in the current minute.';
