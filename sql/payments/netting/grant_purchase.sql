create function credits.grant_purchase(
  account_id uuid,
  purchase_id bigint,
  amount bigint,
  source public.grant_source,
  expires_at timestamptz,
  priority integer,
  key text,
  cost_basis bigint,
  allotment_key text default null,
  month integer default null
) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  purchase public.purchases;
  is_late boolean := coalesce(expires_at <= credits.now(), false);
  lives_until timestamptz := expires_at;
  entry public.credit_transactions;
begin
  select * into purchase
  from public.purchases as p
  where p.account_id = grant_purchase.account_id and p.id = purchase_id;
  if is_late then
    -- Its time is over: credits.end_late_grants may end it at once.
    select credits.now() + greatest(s.late_grant_grace, '1 minute') into lives_until from credits.billing_settings as s;
  end if;
  entry := credits.grant_to_account(
    purchase.account_id, amount, source, lives_until, priority, 'sys:stripe:' || key,
    jsonb_strip_nulls(
      jsonb_build_object(
        'purchase', purchase.id, 'package', purchase.package, 'plan', purchase.plan, 'subscription', purchase.subscription_id
      )
    ),
    case when cost_basis is not null then greatest(cost_basis, 0) end, case when cost_basis is not null then purchase.currency end
  );
  insert into credits.purchase_grants (account_id, purchase_id, transaction_id, allotment_key, month, is_late)
  values (
    purchase.account_id, purchase.id, entry.id, grant_purchase.allotment_key, grant_purchase.month,
    is_late
  );
  update public.purchases as p set credits_granted = p.credits_granted + grant_purchase.amount
  where p.account_id = purchase.account_id and p.id = purchase.id;
  return entry.id;
end
$$;

comment on function credits.grant_purchase is
'Grants credits for a paid purchase; returns the ledger row''s id. key: Stripe''s id of what is granted for; the '
'ledger takes each once. Those whose expires_at is past live for billing_settings.late_grant_grace and are noted as '
'late. cost_basis: what was paid for them without taxes, in minor units; null for unknown. allotment_key, month: of a '
'period that is granted month by month. The caller holds the account''s lock; credits.end_late_grants follows.';
