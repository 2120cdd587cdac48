create function credits.text_salt(seal_salt uuid, transaction_id bigint) returns bytea
language sql
immutable
as $$
  select sha256(uuid_send(seal_salt) || int8send(transaction_id));
$$;

comment on function credits.text_salt(uuid, bigint) is
'The salt of one ledger row, made from that of its seal (ledger_seals.salt), which nobody can make from it: see '
'credits.sealed_texts. Without a SET clause it is planned as part of its caller.';
