create function public.grant_credits(
  user_id uuid,
  amount bigint,
  source text,
  expires_at timestamptz default null,
  priority integer default null,
  idempotency_key text default null,
  metadata jsonb default '{}'
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
    account_id, amount, source::public.grant_source, expires_at, priority, idempotency_key, metadata
  );
end
$$;

comment on function public.grant_credits(uuid, bigint, text, timestamptz, integer, text, jsonb) is
'Operator: grants amount credits to a user as one lot; returns the ledger row. source: purchase, subscription, bonus, '
'referral, promo or refund. priority: 0 burns first, 100 last, default 50. Without expires_at they never expire. '
'Errors: PT400 bad argument, PT404 no such user, PT409 key used for another request.';

grant execute on function public.grant_credits(uuid, bigint, text, timestamptz, integer, text, jsonb) to service_role;
