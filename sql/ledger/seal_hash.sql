create function credits.seal_hash(previous bytea, lines text) returns bytea
language sql
immutable
as $$
  select sha256(coalesce(previous, '') || convert_to(lines, 'UTF8'));
$$;

comment on function credits.seal_hash(bytea, text) is
'SHA-256 over the previous seal''s hash and the batch''s ledger lines, in order of id, joined by newlines.';
