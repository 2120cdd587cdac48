create function credits.apply_charge(charge jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(charge -> 'payment_intent');
  receipt text := case when charge ->> 'status' = 'succeeded' then charge ->> 'receipt_url' end;
  is_booked boolean;
begin
  if
    payment is null
    or charge ->> 'amount_refunded' = '0'
    and receipt is null
    and credits.stripe_id(charge -> 'balance_transaction') is null
  then
    return 'ignored: Nothing of the charge was booked or refunded and it has no receipt, or it has no payment intent.';
  end if;
  -- Where one Stripe account serves several apps, theirs fill no table. What is bought here has a customer that is known
  -- before. (A refund counts whoever paid: its purchase may come later.)
  if
    charge ->> 'amount_refunded' = '0'
    and not exists (
      select from credits.stripe_customers as c where c.customer_id = credits.stripe_id(charge -> 'customer')
    )
    and not exists (select from credits.stripe_payments as p where p.payment_intent_id = payment)
  then
    return 'ignored: The charge is of no customer and no payment of ours.';
  end if;
  perform credits.lock_stripe_object(payment);
  is_booked := credits.note_balance_transaction(charge -> 'balance_transaction', payment, charge ->> 'id', 'payment');
  is_booked := credits.note_balance_transaction(
    charge -> 'failure_balance_transaction', payment, charge ->> 'id', 'payment_failure'
  ) or is_booked;
  insert into credits.stripe_payments as p (payment_intent_id, refunded, receipt_url)
  values (payment, (charge ->> 'amount_refunded')::bigint, receipt)
  on conflict (payment_intent_id) do update set
    refunded = greatest(p.refunded, excluded.refunded),
    -- Of a receipt's addresses the first is as good as a later one.
    receipt_url = coalesce(p.receipt_url, excluded.receipt_url)
  where excluded.refunded > p.refunded or p.receipt_url is null and excluded.receipt_url is not null;
  if found then
    perform credits.net_payment(payment);
  elsif not is_booked then
    return 'unchanged';
  end if;
  return 'changed';
end
$$;

comment on function credits.apply_charge(jsonb) is
'Notes the total that a charge says was refunded, its receipt, and how Stripe booked it, and holds its purchase '
'against them. One of a customer and a payment that nobody knows is none of ours. Returns changed, unchanged or '
'ignored.';
