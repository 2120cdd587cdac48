create table credits.sealed_texts (
  account_id uuid not null references public.credit_accounts (id),
  transaction_id bigint not null,
  salt bytea,
  digest bytea,
  erased_at timestamptz,
  erased_by text,
  constraint sealed_texts_pkey primary key (account_id, transaction_id),
  constraint sealed_texts_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint a_text_must_have_a_salt_or_be_erased check (num_nonnulls(salt, digest) = 1),
  constraint erased_texts_must_say_when_and_by_whom check (
    (digest is null) = (erased_at is null) and (digest is null) = (erased_by is null)
  )
);

alter table credits.sealed_texts enable row level security;
alter table credits.sealed_texts force row level security;
revoke all on table credits.sealed_texts from anon, authenticated, service_role;

comment on table credits.sealed_texts is
'What became of the texts (idempotency key, metadata) in seals of which one was erased. A seal covers a salted digest '
'of each row''s text, and has one salt from which those of its rows are made: that costs a spend nothing, and a '
'settlement 16 bytes. To erase a text, the seal''s salt is deleted. Its digest is written here, which tells nobody '
'what the text was and keeps the seal whole, and beside it the salts of the seal''s other rows with texts. '
'credits.erase_texts is the one who writes here.';
comment on column credits.sealed_texts.transaction_id is 'credit_transactions.id.';
comment on column credits.sealed_texts.salt is 'Of a text that is still there.';
comment on column credits.sealed_texts.digest is 'credits.text_digest of one that was erased.';
comment on column credits.sealed_texts.erased_at is 'When it was erased.';
comment on column credits.sealed_texts.erased_by is 'The session_user.';
