create function credits.replayed_hold(account_id uuid, idempotency_key text, request_hash bytea)
returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  hold public.credit_holds;
begin
  if idempotency_key is null then
    return null;
  end if;
  -- As in credits.replayed_entry.
  perform from public.credit_accounts as a where a.id = replayed_hold.account_id for no key update;
  select h.* into hold from public.credit_holds as h
  where h.account_id = replayed_hold.account_id and h.idempotency_key = replayed_hold.idempotency_key;
  perform credits.check_repeat(
    idempotency_key,
    coalesce(hold.request_hash = replayed_hold.request_hash, true) and not exists (
      select from public.credit_transactions as t
      where t.account_id = replayed_hold.account_id and t.idempotency_key = replayed_hold.idempotency_key
    )
  );
  return hold;
end
$$;

comment on function credits.replayed_hold(uuid, text, bytea) is
'The account''s hold that the same request made with this idempotency key before; null for a new key or none. PT409 '
'where another request, or a ledger row, has it. With a key it takes the account''s row lock.';
