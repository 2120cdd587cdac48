create function credits.apply_balance_transaction(transaction jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  told record := credits.balance_figures(transaction);
begin
  update credits.stripe_balance_transactions as b
  set
    amount = told.amount,
    fee = told.fee,
    currency = told.currency,
    exchange_rate = told.exchange_rate,
    booked_at = told.booked_at
  where b.id = transaction ->> 'id' and b.amount is null;
  return case
    when found then 'changed'
    when exists (select from credits.stripe_balance_transactions as b where b.id = transaction ->> 'id') then 'unchanged'
    else 'ignored: No payment, refund or dispute that is known names the balance transaction.'
  end;
end
$$;

comment on function credits.apply_balance_transaction(jsonb) is
'Learns the figures of a balance transaction that a charge, refund or dispute has named. Returns changed, unchanged or '
'ignored.';
