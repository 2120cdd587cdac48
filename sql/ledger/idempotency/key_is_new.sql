create function credits.key_is_new(account_id uuid, idempotency_key text) returns boolean
language plpgsql
volatile
set search_path = ''
as $$
begin
  return
    not exists (
      select from public.credit_transactions as t
      where t.account_id = key_is_new.account_id and t.idempotency_key = key_is_new.idempotency_key
    )
    and not exists (
      select from public.credit_holds as h
      where h.account_id = key_is_new.account_id and h.idempotency_key = key_is_new.idempotency_key
    );
end
$$;

comment on function credits.key_is_new(uuid, text) is
'Whether nothing of the account has the idempotency key. For the WHERE of the UPDATE that takes the account''s lock: '
'everything with a key changes the account''s row, so where the UPDATE had to wait, Postgres asks again once it has '
'the lock, and being volatile the function then sees what the other session has committed.';
