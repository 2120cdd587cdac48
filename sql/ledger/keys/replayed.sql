create function credits.replayed(
  account_id uuid,
  idempotency_key text,
  request_hash bytea,
  out entry public.credit_transactions,
  out hold public.credit_holds
)
language plpgsql
set search_path = ''
as $$
begin
  if idempotency_key is null then
    return;
  end if;
  -- A call with this key that is under way holds the lock; from here on its row can be seen, or it has failed.
  perform from public.credit_accounts as a where a.id = replayed.account_id for no key update;

  select t.* into entry from public.credit_transactions as t
  where t.account_id = replayed.account_id and t.idempotency_key = replayed.idempotency_key;
  select h.* into hold from public.credit_holds as h
  where h.account_id = replayed.account_id and h.idempotency_key = replayed.idempotency_key;
  if coalesce(entry.request_hash, hold.request_hash) <> request_hash then
    perform credits.fail(
      'PT409', 'This idempotency_key was used for another request.',
      jsonb_build_object('idempotency_key', idempotency_key), 'Use a new key for a new request.'
    );
  end if;
end
$$;

comment on function credits.replayed(uuid, text, bytea) is
'What the same request wrote before with this idempotency key of the account: a ledger row or a hold; nulls for a new '
'key or none. With a key it takes the account''s row lock, so that no other session can use it meanwhile. PT409: the '
'key came with another request.';
