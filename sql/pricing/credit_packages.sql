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
