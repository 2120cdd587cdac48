create table credits.clawbacks (
  account_id uuid not null,
  transaction_id bigint not null,
  cause credits.clawback_cause not null,
  purchase_id bigint,
  other_account_id uuid,
  constraint clawbacks_pkey primary key (account_id, transaction_id),
  constraint clawbacks_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint money_back_and_downgrades_must_name_a_purchase check (
    (cause in ('money_back', 'downgrade')) = (purchase_id is not null)
  ),
  constraint passed_debts_must_name_the_other_account check (
    (cause in ('debt_taken_over', 'debt_handed_back')) = (other_account_id is not null)
  )
);

create index clawbacks_purchase_id on credits.clawbacks (account_id, purchase_id, cause) where purchase_id is not null;

alter table credits.clawbacks enable row level security;
alter table credits.clawbacks force row level security;
revoke all on table credits.clawbacks from anon, authenticated, service_role;

comment on table credits.clawbacks is
'Why each clawback was made: one row for each ledger row of that kind. What is given back of one is a refund that '
'names it, so that its cause is this one.';
comment on column credits.clawbacks.transaction_id is 'credit_transactions.id of the clawback.';
comment on column credits.clawbacks.purchase_id is
'purchases.id: of money_back, what had been paid; of downgrade, the invoice that changed the plan.';
comment on column credits.clawbacks.other_account_id is
'credit_accounts.id: of a debt that was passed, the account at its other end.';
