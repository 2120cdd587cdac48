create table credits.ledger_seals (
  account_id uuid not null references public.credit_accounts (id),
  number integer not null,
  through_id bigint not null,
  format smallint not null,
  salt uuid,
  entries integer not null,
  hash bytea not null,
  sealed_at timestamptz not null,
  constraint ledger_seals_pkey primary key (account_id, number),
  constraint number_must_be_positive check (number > 0),
  constraint entries_must_be_positive check (entries > 0),
  constraint hash_must_be_sha_256 check (octet_length(hash) = 32)
);

alter table credits.ledger_seals enable row level security;
alter table credits.ledger_seals force row level security;
revoke all on table credits.ledger_seals from anon, authenticated, service_role;

comment on table credits.ledger_seals is
'Tamper evidence: for each account a chain of hashes over batches of its ledger rows. Made by credits.settle_batch, '
'verified by verify_ledger. Export the newest hash to another system and nobody can rewrite the past unseen.';
comment on column credits.ledger_seals.number is '1, 2, 3 within the account.';
comment on column credits.ledger_seals.through_id is
'The last ledger row of the batch; it begins after the previous seal''s.';
comment on column credits.ledger_seals.format is 'How its rows were written for the hash: see credits.seal_format.';
comment on column credits.ledger_seals.salt is
'What the salts of its rows'' texts are made from (credits.text_salt). Null where no row had any, or since one was '
'erased: see credits.sealed_texts.';
comment on column credits.ledger_seals.entries is 'Rows in the batch.';
comment on column credits.ledger_seals.hash is 'credits.seal_hash(previous hash, the digests of the batch''s rows).';
