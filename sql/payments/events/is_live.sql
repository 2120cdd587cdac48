create function credits.is_live(subscription public.subscriptions) returns boolean
language sql
stable
set search_path = ''
as $$
  select
    subscription.status in ('trialing', 'active', 'past_due', 'unpaid', 'paused')
    -- Paid before anything else of it was told.
    or subscription.status = 'incomplete' and exists (
      select from public.purchases as p
      where p.account_id = subscription.account_id and p.subscription_id = subscription.id and p.status = 'paid'
    );
$$;

comment on function credits.is_live(public.subscriptions) is
'Whether a subscription has begun and not ended, as far as is known: an account may have one such.';
