create table credits.credit_allocations (
  account_id uuid not null,
  -- No foreign keys: they would double the time of a settlement, and nothing that they point to is ever deleted.
  -- verify_ledger looks for allocations that belong to nothing.
  transaction_id bigint not null,
  number integer not null,
  grant_id bigint not null,
  amount bigint not null,
  constraint credit_allocations_pkey primary key (account_id, transaction_id, number),
  constraint amount_must_not_be_0 check (amount <> 0)
);

create index credit_allocations_grant_id on credits.credit_allocations (account_id, grant_id);

alter table credits.credit_allocations enable row level security;
alter table credits.credit_allocations force row level security;
revoke all on table credits.credit_allocations from anon, authenticated, service_role;

comment on table credits.credit_allocations is
'Which lot paid for which transaction. Written by settlement; a transaction that is not there yet is not settled.';
comment on column credits.credit_allocations.number is
'1, 2, 3 within the transaction, in the order in which lots were taken. A lot can pay for a debt twice, when a refund '
'fills it again in between.';
comment on column credits.credit_allocations.amount is
'Credits taken from the lot; negative where a refund put them back.';
