create function credits.subscription_rank(
  subscription public.subscriptions,
  out ended boolean,
  out period_start timestamptz,
  out begun boolean
)
language sql
immutable
set search_path = ''
as $$
  select
    subscription.stripe_status in ('canceled', 'incomplete_expired'),
    coalesce(subscription.current_period_start, '-infinity'),
    subscription.stripe_status <> 'incomplete';
$$;

comment on function credits.subscription_rank(public.subscriptions) is
'How far a subscription''s life has come, by its content: compare two as rows.';
