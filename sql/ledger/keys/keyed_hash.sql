create function credits.keyed_hash(idempotency_key text, variadic request text[]) returns bytea
language sql
stable
as $$
  select case
    when idempotency_key is null then null
    when char_length(idempotency_key) between 1 and 255 and not starts_with(idempotency_key, 'sys:')
    then credits.request_hash(variadic request)
    else credits.refuse_key(idempotency_key)
  end;
$$;

comment on function credits.keyed_hash(text, text[]) is
'credits.request_hash of a call that came with an idempotency key; null without one; PT400 for a key that a caller may '
'not use. Planned as part of its caller, for want of a SET clause.';
