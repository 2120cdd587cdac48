create function credits.keyed_hash(idempotency_key text, variadic request text[]) returns bytea
language plpgsql
stable
set search_path = ''
as $$
begin
  if idempotency_key is null then
    return null;
  elsif starts_with(idempotency_key, 'sys:') then
    perform credits.fail('PT400', 'Keys that start with "sys:" are reserved.', '{}', 'Choose another idempotency_key.');
  elsif char_length(idempotency_key) not between 1 and 255 then
    perform credits.fail(
      'PT400', 'idempotency_key must have 1 to 255 characters.', '{}', 'A UUID made by the client for each action is a good key.'
    );
  end if;
  return credits.request_hash(variadic request);
end
$$;

comment on function credits.keyed_hash(text, text[]) is
'credits.request_hash of a call that came with an idempotency key; null without one. PT400 for a key of the wrong '
'length, and for the keys that the ledger itself uses, so that no caller can take the key of a bonus or a payment '
'beforehand.';
