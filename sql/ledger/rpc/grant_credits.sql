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
  hash bytea := credits.keyed_hash(
    idempotency_key, 'grant_credits', amount::text, source, extract(epoch from expires_at)::text, priority::text,
    metadata::text
  );
  entry public.credit_transactions;
begin
  entry := (credits.replayed(account_id, idempotency_key, hash)).entry;
  if entry.id is not null then
    return entry;
  end if;
  if source is null or source <> all (enum_range(null::public.grant_source)::text[]) then
    perform credits.fail(
      'PT400', 'source must be purchase, subscription, bonus, referral, promo or refund.',
      jsonb_build_object('source', left(source, 100)), 'It says where the credits come from.'
    );
  end if;
  return credits.grant_to_account(
    account_id, amount, source::public.grant_source, expires_at, priority, idempotency_key, hash, metadata
  );
end
$$;

comment on function public.grant_credits(uuid, bigint, text, timestamptz, integer, text, jsonb) is
'Operator: grants amount credits to a user as one lot; returns the ledger row. source: purchase, subscription, bonus, '
'referral, promo or refund. priority: 0 burns first, 100 last, default 50. Without expires_at they never expire. '
'Errors: PT400 bad argument, PT404 no such user, PT409 key used for another request.';

grant execute on function public.grant_credits(uuid, bigint, text, timestamptz, integer, text, jsonb) to service_role;
