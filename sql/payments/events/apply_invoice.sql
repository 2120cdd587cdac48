create function credits.apply_invoice(invoice jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  the_invoice text := invoice ->> 'id';
  details jsonb := invoice #> '{parent,subscription_details}';
  subscription text := credits.stripe_id(details -> 'subscription');
  account uuid;
  told public.purchase_status;
  purchase public.purchases;
  payment text;
  brings record;
begin
  told := (case
    when invoice ->> 'status' = 'paid' then 'paid'
    when invoice ->> 'status' = 'open' and (invoice ->> 'attempt_count')::integer > 0 then 'failed'
    when invoice ->> 'status' in ('void', 'uncollectible') then 'expired'
  end)::public.purchase_status;
  if
    subscription is null
    or coalesce(
      invoice ->> 'billing_reason' not in ('subscription_create', 'subscription_cycle', 'subscription_update'), true
    )
  then
    return 'ignored: The invoice is for no period and no change of a subscription.';
  elsif told is null then
    return 'ignored: The invoice is neither paid nor failed nor given up.';
  end if;
  perform credits.lock_stripe_object(the_invoice);
  select p.* into purchase
  from credits.stripe_objects as o
  inner join public.purchases as p on o.account_id = p.account_id and o.purchase_id = p.id
  where o.id = the_invoice;
  -- Paid is final; a message that could not be granted as it was has nothing to add to one that could.
  if purchase.status >= told then
    return 'unchanged';
  end if;
  -- Known once, known for good.
  account := coalesce(purchase.account_id, credits.subscriber(subscription, invoice -> 'customer', details -> 'metadata'));
  if not credits.accept_invoice(account, invoice) then
    return 'ignored: The subscription is to no plan of ours.';
  end if;

  for payment in
    select s.payment_intent_id from credits.stripe_payments as s where s.invoice_id = the_invoice order by 1
  loop
    perform credits.lock_stripe_object(payment);
  end loop;
  perform credits.lock_account(account);
  perform credits.open_subscription(account, subscription);
  perform credits.note_second_subscription(account, subscription) where told = 'paid';
  select max(g.plan) as plan, coalesce(sum(g.credits), 0) as credits into brings
  from credits.invoice_grants_and_rollover(invoice) as g;
  if purchase.id is null then
    insert into public.purchases (
      account_id, id, invoice_id, payment_intent_id, subscription_id, plan, amount, net_amount, tax_amount, currency,
      status, credits, hosted_invoice_url
    )
    values (
      account, credits.next_purchase(account), the_invoice,
      (select min(s.payment_intent_id) from credits.stripe_payments as s where s.invoice_id = the_invoice),
      subscription, brings.plan, (invoice ->> 'amount_paid')::bigint, (invoice ->> 'total_excluding_tax')::bigint,
      (invoice ->> 'total')::bigint - (invoice ->> 'total_excluding_tax')::bigint, invoice ->> 'currency', told,
      brings.credits, invoice ->> 'hosted_invoice_url'
    )
    returning * into purchase;
    insert into credits.stripe_objects (id, account_id, purchase_id) values (the_invoice, account, purchase.id);
    for payment in
      select s.payment_intent_id from credits.stripe_payments as s where s.invoice_id = the_invoice order by 1
    loop
      perform credits.link_payment(account, purchase.id, payment);
    end loop;
  else
    update public.purchases as p
    set
      status = told,
      amount = (invoice ->> 'amount_paid')::bigint,
      net_amount = (invoice ->> 'total_excluding_tax')::bigint,
      tax_amount = (invoice ->> 'total')::bigint - (invoice ->> 'total_excluding_tax')::bigint,
      credits = brings.credits,
      plan = brings.plan,
      hosted_invoice_url = coalesce(invoice ->> 'hosted_invoice_url', p.hosted_invoice_url),
      updated_at = credits.now()
    where p.account_id = purchase.account_id and p.id = purchase.id
    returning * into purchase;
  end if;

  if told = 'paid' then
    perform credits.grant_invoice(account, purchase.id, invoice);
  end if;
  perform credits.set_subscription_status(account, subscription);
  perform credits.claw_back_share(account, purchase.id);
  perform credits.collect_subscription_debts(account);
  perform credits.end_late_grants(account);
  perform credits.freeze_for_disputes(account, purchase.id);
  return 'changed';
end
$$;

comment on function credits.apply_invoice(jsonb) is
'What an invoice of a subscription means: a purchase that is failed, given up or paid; the paid one grants what '
'credits.invoice_grants_and_rollover says, once, and a failed one leaves what was granted before. Returns changed, '
'unchanged or ignored; PT422 for one that cannot be read.';
