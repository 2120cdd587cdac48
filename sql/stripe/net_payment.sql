create function credits.net_payment(payment_intent_id text) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  purchase public.purchases;
  changed boolean;
begin
  select p.* into purchase
  from public.purchases as p
  where
    p.payment_intent_id = net_payment.payment_intent_id
    or p.invoice_id = (
      select s.invoice_id from credits.stripe_payments as s where s.payment_intent_id = net_payment.payment_intent_id
    );
  if not found then
    return false; -- kept until its purchase comes
  end if;
  perform credits.lock_account(purchase.account_id);
  changed := credits.net_purchase(purchase.id);
  perform credits.collect_subscription_debts(purchase.account_id);
  perform credits.end_late_grants(purchase.account_id);
  perform credits.freeze_for_disputes(purchase.id);
  return changed;
end
$$;

comment on function credits.net_payment(text) is
'Holds the purchase that a payment intent pays, if it is known, against its refunds and disputes. Returns whether '
'anything changed. The caller holds the payment''s lock.';
