create function credits.refuse_reserved_key(idempotency_key text) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if starts_with(idempotency_key, 'sys:') then
    perform credits.fail('PT400', 'Keys that start with "sys:" are reserved.', '{}', 'Choose another idempotency_key.');
  end if;
end
$$;

comment on function credits.refuse_reserved_key(text) is
'PT400 for the keys that the ledger itself uses, so that no caller can take the key of a bonus or a payment '
'beforehand.';
