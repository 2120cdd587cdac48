create table credits.lot_payments (
  account_id uuid not null,
  -- No foreign keys: they would double the time of a settlement, and nothing that they point to is ever deleted.
  -- verify_ledger looks for payments that belong to nothing.
  grant_id bigint not null,
  first_id bigint not null,
  last_id bigint not null,
  first_amount bigint not null,
  last_amount bigint not null,
  number integer not null,
  is_late boolean not null default false,
  constraint lot_payments_pkey primary key (account_id, number),
  constraint amounts_must_be_positive check (first_amount > 0 and last_amount > 0),
  constraint last_id_must_not_be_before_first_id check (last_id >= first_id),
  constraint one_debit_must_have_one_amount check (first_id < last_id or first_amount = last_amount)
)
-- The newest of an account grows in place while the same lot goes on paying.
with (fillfactor = 80);

alter table credits.lot_payments enable row level security;
alter table credits.lot_payments force row level security;
revoke all on table credits.lot_payments from anon, authenticated, service_role;

comment on table credits.lot_payments is
'Which lot paid for which debits (spends, captures, clawbacks, expiries): one row per lot and run of consecutive '
'debits. The debits between the first and the last are paid by the lot wholly; those at the ends as far as the amounts '
'say, for the lots before and after pay the rest. Written by settlement; a debit that is not there yet is not settled, '
'or a debt. credits.credit_allocations has it debit by debit.';
comment on column credits.lot_payments.first_id is 'credit_transactions.id of the first debit.';
comment on column credits.lot_payments.last_id is
'That of the last. Grants and refunds between are no part of it.';
comment on column credits.lot_payments.first_amount is 'Credits that the lot paid for the first debit.';
comment on column credits.lot_payments.last_amount is
'Credits that it paid for the last; first_amount once more where they are one.';
comment on column credits.lot_payments.number is '1, 2, 3 within the account, in the order in which lots were taken.';
comment on column credits.lot_payments.is_late is
'Paid for one debit that had waited, a debt. Others stand around it that were paid before, so it does not grow.';
