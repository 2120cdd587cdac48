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
  -- Money that came back lets the months go on.
  if exists (
    select from credits.allotments as a where a.purchase_id = purchase.id and a.months is not null
  ) then
    update credits.allotments as a set next_at = a.period_start
    where a.purchase_id = purchase.id and a.months is not null;
    perform credits.grant_allotments(purchase.id);
    changed := credits.net_purchase(purchase.id) or changed;
  end if;
  perform credits.collect_subscription_debts(purchase.account_id);
  perform credits.end_late_grants(purchase.account_id);
  perform credits.freeze_for_disputes(purchase.id);
  return changed;
end
$$;

comment on function credits.net_payment(text) is
'Holds the purchase that a payment intent pays, if it is known, against its refunds and disputes. Returns whether '
'anything changed. The caller holds the payment''s lock.';
