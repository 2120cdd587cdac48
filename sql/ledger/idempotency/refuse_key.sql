create function credits.refuse_key(idempotency_key text) returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  if starts_with(idempotency_key, 'sys:') then
    perform credits.fail('PT400', 'Keys that start with "sys:" are reserved.', '{}', 'Choose another idempotency_key.');
  end if;
  perform credits.fail(
    'PT400', 'idempotency_key must have 1 to 255 characters.', '{}', 'A UUID made by the client for each action is a good key.'
  );
  return null;
end
$$;

comment on function credits.refuse_key(text) is
'Raises PT400 for an idempotency key that credits.check_key has refused, and says why.';
