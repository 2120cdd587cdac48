create function credits.grant_purchase(
  purchase_id bigint,
  amount bigint,
  source text,
  expires_at timestamptz,
  priority integer,
  key text,
  sources jsonb default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  purchase public.purchases;
  is_late boolean := coalesce(expires_at <= credits.now(), false);
  grace interval;
  entry public.credit_transactions;
begin
  select * into purchase from public.purchases as p where p.id = purchase_id;
  -- Its time is over: credits.end_late_grants may end it at once.
  select greatest(s.late_grant_grace, '1 minute') into grace from credits.billing_settings as s;
  entry := credits.grant_to_account(
    purchase.account_id, amount, source,
    case when is_late then credits.now() + grace else expires_at end,
    priority, 'sys:stripe:' || key,
    jsonb_strip_nulls(
      jsonb_build_object(
        'purchase', purchase.id, 'package', purchase.package, 'plan', purchase.plan, 'subscription', purchase.subscription_id,
        'late', case when is_late then true end, 'sources', sources
      )
    )
  );
  update public.purchases as p
  set credits_granted = p.credits_granted + grant_purchase.amount, grant_ids = p.grant_ids || entry.id
  where p.id = purchase_id;
end
$$;

comment on function credits.grant_purchase(bigint, bigint, text, timestamptz, integer, text, jsonb) is
'Grants credits for a paid purchase. key: Stripe''s id of what is granted for; the ledger takes each once. Those whose '
'expires_at is past live for billing_settings.late_grant_grace and say late in their metadata. sources: which '
'purchases paid for it, with the part of each, where it is not this one alone. The caller holds the account''s lock; '
'credits.end_late_grants follows.';
