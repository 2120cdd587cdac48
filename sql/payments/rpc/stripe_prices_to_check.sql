create function public.stripe_prices_to_check() returns text[]
language sql
stable
security definer
set search_path = ''
as $$
  select coalesce(array_agg(distinct r.stripe_price_id), '{}') from credits.priced_rows as r;
$$;

comment on function public.stripe_prices_to_check() is
'For reconciliation: the ids of all Stripe Prices that rows of credit_packages and subscription_plans name.';

grant execute on function public.stripe_prices_to_check() to service_role;
