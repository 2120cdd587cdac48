create function credits.check_key(idempotency_key text) returns text
language sql
stable
as $$
  select case
    when starts_with(idempotency_key, 'sys:') or char_length(idempotency_key) not between 1 and 255
    then credits.refuse_key(idempotency_key)
    else idempotency_key
  end;
$$;

comment on function credits.check_key(text) is
'The idempotency key, if a caller may use it; null for none. PT400 by its length, or because it is of the kind that '
'the ledger itself uses, so that no caller can take the key of a bonus or a payment beforehand. Every spend asks: '
'without a SET clause it is planned as part of its caller.';
