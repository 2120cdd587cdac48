create view credits.priced_rows with (security_invoker = true) as
select
  p.stripe_price_id,
  'package' as kind,
  p.slug,
  p.currency,
  p.active,
  credits.price_differences(s.price, p.currency, p.unit_amount, null, null, p.active) as differences
from public.credit_packages as p
left join credits.stripe_prices as s on p.stripe_price_id = s.id
where p.stripe_price_id is not null
union all
select
  p.stripe_price_id,
  'plan' as kind,
  p.slug,
  p.currency,
  p.active,
  credits.price_differences(s.price, p.currency, p.unit_amount, p.interval, p.interval_count, p.active) as differences
from public.subscription_plans as p
left join credits.stripe_prices as s on p.stripe_price_id = s.id;

revoke all on table credits.priced_rows from anon, authenticated, service_role;

comment on view credits.priced_rows is
'The rows that name a Stripe Price, with what that Price, as last asked for, says otherwise.';
