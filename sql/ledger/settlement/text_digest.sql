create function credits.text_digest(entry public.credit_transactions, salt bytea) returns bytea
language sql
stable
as $$
  select case
    when credits.has_text(entry)
      then sha256(coalesce(salt, '') || convert_to(row(entry.idempotency_key, entry.metadata)::text, 'UTF8'))
  end;
$$;

comment on function credits.text_digest(public.credit_transactions, bytea) is
'Salted SHA-256 of a ledger row''s idempotency key and metadata, for its seal; null where it has neither. Without a '
'SET clause it is planned as part of its caller.';
