create function credits.check_key(idempotency_key text) returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if starts_with(idempotency_key, 'sys:') then
    perform credits.fail('PT400', 'Keys that start with "sys:" are reserved.', '{}', 'Choose another idempotency_key.');
  elsif char_length(idempotency_key) not between 1 and 255 then
    perform credits.fail(
      'PT400', 'idempotency_key must have 1 to 255 characters.', '{}', 'A UUID made by the client for each action is a good key.'
    );
  end if;
end
$$;

comment on function credits.check_key(text) is
'Refuses with PT400 an idempotency key that a caller may not use: by its length, or because it is of the kind that the '
'ledger itself uses, so that no caller can take the key of a bonus or a payment beforehand. Null may be used.';
