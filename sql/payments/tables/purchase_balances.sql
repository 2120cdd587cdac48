create view credits.purchase_balances with (security_invoker = true) as
select
  p.account_id,
  p.purchase_id,
  b.id as balance_transaction_id,
  b.movement,
  b.source_id,
  b.amount,
  b.fee,
  b.currency,
  b.exchange_rate,
  b.booked_at,
  b.amount - b.fee as net
from credits.stripe_balance_transactions as b
inner join credits.stripe_payments as p on b.payment_intent_id = p.payment_intent_id
where p.purchase_id is not null;

revoke all on table credits.purchase_balances from anon, authenticated, service_role;

comment on view credits.purchase_balances is
'What each purchase, its refunds and its disputes moved on Stripe''s balance, in minor units of currency: amount less '
'fee is net. Nulls where Stripe has named a balance transaction and not told yet.';
