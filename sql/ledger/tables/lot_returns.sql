create table credits.lot_returns (
  account_id uuid not null,
  transaction_id bigint not null,
  grant_id bigint not null,
  amount bigint not null,
  constraint lot_returns_pkey primary key (account_id, transaction_id, grant_id),
  constraint amount_must_be_positive check (amount > 0)
);

alter table credits.lot_returns enable row level security;
alter table credits.lot_returns force row level security;
revoke all on table credits.lot_returns from anon, authenticated, service_role;

comment on table credits.lot_returns is
'What refunds put back into the lots that had paid. What a refund puts into a new lot, because the lot that paid has '
'expired, is that lot''s amount.';
comment on column credits.lot_returns.transaction_id is 'The refund''s credit_transactions.id.';
comment on column credits.lot_returns.amount is 'Credits put back.';
