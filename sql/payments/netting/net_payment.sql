create function credits.net_payment(payment_intent_id text) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  purchase public.purchases;
  period bigint;
  changed boolean;
begin
  select p.* into purchase
  from credits.stripe_payments as s
  inner join public.purchases as p on s.account_id = p.account_id and s.purchase_id = p.id
  where s.payment_intent_id = net_payment.payment_intent_id;
  if not found then
    return false; -- kept until its purchase comes
  end if;
  perform credits.lock_account(purchase.account_id);
  changed := credits.claw_back_share(purchase.account_id, purchase.id);
  -- Money that came back lets the months go on; that of a change goes with what it added to them.
  for period in
    select distinct m.purchase_id
    from credits.allotments as a
    inner join credits.allotments as m
      on a.account_id = m.account_id and a.subscription_id = m.subscription_id and a.period_end = m.period_end
    where a.account_id = purchase.account_id and a.purchase_id = purchase.id and m.months is not null
  loop
    update credits.allotments as a set next_at = a.period_start
    where a.account_id = purchase.account_id and a.purchase_id = period and a.months is not null;
    perform credits.grant_allotments(purchase.account_id, period);
    changed := credits.claw_back_share(purchase.account_id, period) or changed;
  end loop;
  perform credits.collect_subscription_debts(purchase.account_id);
  perform credits.end_late_grants(purchase.account_id);
  perform credits.freeze_for_disputes(purchase.account_id, purchase.id);
  return changed;
end
$$;

comment on function credits.net_payment(text) is
'Holds the purchase that a payment intent pays, if it is known, against its refunds and disputes. Returns whether '
'anything changed. The caller holds the payment''s lock.';
