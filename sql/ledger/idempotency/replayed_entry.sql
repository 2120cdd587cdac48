create function credits.replayed_entry(account_id uuid, idempotency_key text) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  entry public.credit_transactions;
begin
  if idempotency_key is null then
    return null;
  end if;
  -- A call with this key that is under way holds the lock; from here on its row can be seen, or it has failed.
  perform from public.credit_accounts as a where a.id = replayed_entry.account_id for no key update;
  select t.* into entry from public.credit_transactions as t
  where t.account_id = replayed_entry.account_id and t.idempotency_key = replayed_entry.idempotency_key;
  perform credits.check_repeat(idempotency_key, not exists (
    select from public.credit_holds as h
    where h.account_id = replayed_entry.account_id and h.idempotency_key = replayed_entry.idempotency_key
  ));
  return entry;
end
$$;

comment on function credits.replayed_entry(uuid, text) is
'The account''s ledger row that was written with this idempotency key before; null for a new key or none. PT409 where '
'a hold has it. With a key it takes the account''s row lock, so that no other session can use it meanwhile. The caller '
'says with credits.check_repeat whether the row is what it asks for.';
