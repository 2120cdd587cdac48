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
