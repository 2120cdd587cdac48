create table credits.operator_entries (
  account_id uuid not null,
  transaction_id bigint not null,
  login text not null default session_user,
  noted_at timestamptz not null default clock_timestamp(),
  constraint operator_entries_pkey primary key (account_id, transaction_id)
);

alter table credits.operator_entries enable row level security;
alter table credits.operator_entries force row level security;
revoke all on table credits.operator_entries from anon, authenticated, service_role;

comment on table credits.operator_entries is
'Which login wrote a ledger row whose actor is operator. Users read the ledger, and do not read this.';
comment on column credits.operator_entries.transaction_id is 'credit_transactions.id.';
comment on column credits.operator_entries.login is 'The session_user.';
comment on column credits.operator_entries.noted_at is 'When.';
