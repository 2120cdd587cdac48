create function credits.seal_hash(previous bytea, digests bytea) returns bytea
language sql
immutable
as $$
  select sha256(coalesce(previous, '') || digests);
$$;

comment on function credits.seal_hash(bytea, bytea) is
'SHA-256 over the previous seal''s hash and the digests (credits.entry_digest) of the batch''s ledger rows, in order '
'of id, end to end. credits.settle_batch makes it for each batch, verify_ledger makes it again and compares.';
