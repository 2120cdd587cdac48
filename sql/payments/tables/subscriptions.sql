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
