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
