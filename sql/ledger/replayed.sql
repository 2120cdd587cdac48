create function credits.replayed(
  account_id uuid,
  idempotency_key text,
  request_hash bytea,
  out transaction_id bigint,
  out hold_id uuid
)
language plpgsql
set search_path = ''
as $$
declare
  first_hash bytea;
begin
  if char_length(idempotency_key) not between 1 and 255 then
    perform credits.fail(
      'PT400', 'idempotency_key must have 1 to 255 characters.', '{}', 'A UUID made by the client for each action is a good key.'
    );
  end if;

  -- One session at a time goes past here with this key; the next one sees what this one has committed.
  perform pg_advisory_xact_lock(hashtextextended(idempotency_key, hashtextextended(account_id::text, 0)));

  select t.id, null, t.request_hash into transaction_id, hold_id, first_hash
  from public.credit_transactions as t
  where t.account_id = replayed.account_id and t.idempotency_key = replayed.idempotency_key
  union all
  select null, h.id, h.request_hash
  from public.credit_holds as h
  where h.account_id = replayed.account_id and h.idempotency_key = replayed.idempotency_key;
  if first_hash <> request_hash then
    perform credits.fail(
      'PT409', 'This idempotency_key was used for another request.',
      jsonb_build_object('idempotency_key', idempotency_key), 'Use a new key for a new request.'
    );
  end if;
end
$$;

comment on function credits.replayed(uuid, text, bytea) is
'Claims an idempotency key of the account until the transaction ends. Returns the id of what the same request wrote '
'before, nulls when the key is new. Errors: PT400 key, PT409 the key came with another request.';
