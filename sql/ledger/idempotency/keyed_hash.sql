create function credits.keyed_hash(idempotency_key text, variadic request text[]) returns bytea
language plpgsql
stable
set search_path = ''
as $$
begin
  perform credits.check_key(idempotency_key);
  return case when idempotency_key is not null then sha256(convert_to(request::text, 'UTF8')) end;
end
$$;

comment on function credits.keyed_hash(text, text[]) is
'SHA-256 of the request for a hold that came with an idempotency key (the call''s name, then each argument), by which '
'a repeat is told; null without a key; PT400 for a key that a caller may not use.';
