create function credits.entry_digest(
  entry public.credit_transactions,
  format smallint,
  text_digest bytea
) returns bytea
language sql
stable
as $$
  select sha256(convert_to(credits.ledger_line(entry, format, text_digest), 'UTF8'));
$$;

comment on function credits.entry_digest(public.credit_transactions, smallint, bytea) is
'SHA-256 of a ledger row as credits.ledger_line writes it: what its seal is made over.';
