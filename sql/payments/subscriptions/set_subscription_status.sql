create function credits.set_subscription_status(account_id uuid, subscription_id text) returns void
language sql
set search_path = ''
as $$
  update public.subscriptions as s
  set
    status = case
      when s.stripe_status = 'active' and p.status = 'failed' then 'past_due'
      when s.stripe_status in ('past_due', 'unpaid', 'incomplete') and p.status = 'paid' then 'active'
      else s.stripe_status
    end,
    updated_at = credits.now()
  from public.subscriptions as me
  left join credits.stripe_objects as o on me.latest_invoice_id = o.id
  left join public.purchases as p on o.account_id = p.account_id and o.purchase_id = p.id
  where
    me.account_id = set_subscription_status.account_id
    and me.id = set_subscription_status.subscription_id
    and s.account_id = me.account_id
    and s.id = me.id;
$$;

comment on function credits.set_subscription_status(uuid, text) is
'Sets a subscription''s status from what Stripe''s object said and what is known of its latest invoice: whichever '
'message comes first, a failed invoice means past_due and a paid one ends that. The caller holds the account''s lock.';
