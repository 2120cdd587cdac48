create table credits.stripe_balance_transactions (
  id text primary key,
  payment_intent_id text not null,
  source_id text not null,
  movement credits.money_movement not null,
  amount bigint,
  fee bigint,
  currency credits.currency_code,
  exchange_rate numeric,
  booked_at timestamptz,
  constraint figures_must_come_together check (num_nulls(amount, fee, currency, booked_at) in (0, 4))
);

create index stripe_balance_transactions_payment_intent_id on credits.stripe_balance_transactions (payment_intent_id);
create index stripe_balance_transactions_untold on credits.stripe_balance_transactions (id) where amount is null;

alter table credits.stripe_balance_transactions enable row level security;
alter table credits.stripe_balance_transactions force row level security;
revoke all on table credits.stripe_balance_transactions from anon, authenticated, service_role;

comment on table credits.stripe_balance_transactions is
'What payments, refunds and disputes moved on Stripe''s balance, and what Stripe took for it. Stripe names a balance '
'transaction when it books it, which for a charge is up to an hour after the payment; the figures come with a dispute, '
'or when reconciliation asks for them. Null until then.';
comment on column credits.stripe_balance_transactions.id is 'Stripe''s txn_… id.';
comment on column credits.stripe_balance_transactions.payment_intent_id is 'The payment that it is about.';
comment on column credits.stripe_balance_transactions.source_id is 'The charge, refund or dispute that names it.';
comment on column credits.stripe_balance_transactions.amount is
'What moved, before the fee, in minor units of currency: below 0 for money that went.';
comment on column credits.stripe_balance_transactions.fee is
'What Stripe took for it, in minor units of currency; below 0 for a fee that came back. amount - fee reached the '
'balance.';
comment on column credits.stripe_balance_transactions.currency is
'The currency of the balance, which can be another than that of the payment.';
comment on column credits.stripe_balance_transactions.exchange_rate is
'Units of currency for one of the payment''s; null where they are the same.';
comment on column credits.stripe_balance_transactions.booked_at is 'When Stripe made it.';
