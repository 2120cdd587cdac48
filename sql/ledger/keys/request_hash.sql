create function credits.request_hash(variadic request text[]) returns bytea
language sql
stable
as $$
  select sha256(convert_to(request::text, 'UTF8'));
$$;

comment on function credits.request_hash(text[]) is
'SHA-256 that tells whether two requests with the same idempotency key are the same: the call''s name, then each '
'argument.';
