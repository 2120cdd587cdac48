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
  hash bytea;
  replayed record;
  entry public.credit_transactions;
begin
  if idempotency_key is not null then
    perform credits.refuse_reserved_key(idempotency_key);
    hash := credits.request_hash(
      'grant_credits', amount::text, source, extract(epoch from expires_at)::text, priority::text, metadata::text
    );
    replayed := credits.replayed(account_id, idempotency_key, hash);
    if replayed.transaction_id is not null then
      select * into entry from public.credit_transactions as t where t.id = replayed.transaction_id;
      return entry;
    end if;
  end if;
  return credits.grant_to_account(account_id, amount, source, expires_at, priority, idempotency_key, hash, metadata);
end
$$;

comment on function public.grant_credits(uuid, bigint, text, timestamptz, integer, text, jsonb) is
'Operator: grants amount credits to a user as one lot; returns the ledger row. source: purchase, subscription, bonus, '
'referral, promo or refund. priority: 0 burns first, 100 last, default 50. Without expires_at they never expire. '
'Errors: PT400 bad argument, PT404 no such user, PT409 key used for another request.';

grant execute on function public.grant_credits(uuid, bigint, text, timestamptz, integer, text, jsonb) to service_role;
