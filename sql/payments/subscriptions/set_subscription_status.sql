create function credits.set_subscription_status(subscription_id text) returns void
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
  left join public.purchases as p on me.latest_invoice_id = p.invoice_id
  where me.id = set_subscription_status.subscription_id and s.id = me.id;
$$;

comment on function credits.set_subscription_status(text) is
'Sets a subscription''s status from what Stripe''s object said and what is known of its latest invoice: whichever '
'message comes first, a failed invoice means past_due and a paid one ends that. The caller holds the account''s lock.';
