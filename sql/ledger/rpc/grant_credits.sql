create function public.grant_credits(
  user_id uuid,
  amount bigint,
  source text,
  expires_at timestamptz default null,
  priority integer default null,
  idempotency_key text default null,
  metadata jsonb default '{}',
  cost_basis bigint default null,
  currency text default null
) returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
  account_id uuid := credits.open_account(user_id);
  entry public.credit_transactions;
begin
  perform credits.check_key(idempotency_key);
  entry := credits.replayed_entry(account_id, idempotency_key);
  if entry.id is not null then
    perform credits.check_repeat(idempotency_key, exists (
      select from credits.credit_grants as g
      where
        g.account_id = entry.account_id and g.transaction_id = entry.id and entry.kind = 'grant'
        and g.amount = grant_credits.amount and g.source::text = grant_credits.source
        and g.expires_at is not distinct from grant_credits.expires_at
        and g.priority = coalesce(grant_credits.priority, 50) and entry.metadata = grant_credits.metadata
        and g.cost_basis is not distinct from coalesce(grant_credits.cost_basis, case when g.promotional then 0 end)
        and g.currency is not distinct from lower(grant_credits.currency)
    ));
    return entry;
  end if;
  if source is null or source <> all (enum_range(null::public.grant_source)::text[]) then
    perform credits.fail(
      'PT400', 'source must be purchase, subscription, bonus, referral, promo or refund.',
      jsonb_build_object('source', left(source, 100)), 'It says where the credits come from.'
    );
  end if;
  return credits.grant_to_account(
    account_id, amount, source::public.grant_source, expires_at, priority, idempotency_key, metadata, cost_basis,
    currency
  );
end
$$;

comment on function public.grant_credits(
  uuid, bigint, text, timestamptz, integer, text, jsonb, bigint, text
) is
'Operator: grants amount credits to a user as one lot; returns the ledger row. source: purchase, subscription, bonus, '
'referral, promo or refund. priority: 0 burns first, 100 last, default 50. Without expires_at they never expire. '
'cost_basis: what was paid for all of them, net of tax, in minor units of currency, for the accounts; left out, it is '
'0 for what was given (bonus, referral, promo), else unknown. Errors: PT400 bad argument, PT404 no such user, PT409 '
'key used for another request.';

grant execute on function public.grant_credits(
  uuid, bigint, text, timestamptz, integer, text, jsonb, bigint, text
) to service_role;
