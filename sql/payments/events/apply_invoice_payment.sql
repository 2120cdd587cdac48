create function credits.apply_invoice_payment(invoice_payment jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  the_invoice text := credits.stripe_id(invoice_payment -> 'invoice');
  known credits.stripe_objects;
  payment text := credits.stripe_id(invoice_payment #> '{payment,payment_intent}');
begin
  if the_invoice is null or payment is null then
    return 'ignored: The invoice was paid without a payment intent.';
  end if;
  perform credits.lock_stripe_object(the_invoice);
  perform credits.lock_stripe_object(payment);
  insert into credits.stripe_payments as p (payment_intent_id, invoice_id) values (payment, the_invoice)
  on conflict (payment_intent_id) do update set invoice_id = excluded.invoice_id
  where p.invoice_id is null;
  if not found then
    return 'unchanged';
  end if;
  select o.* into known from credits.stripe_objects as o where o.id = the_invoice;
  if known.purchase_id is not null then
    perform credits.link_payment(known.account_id, known.purchase_id, payment);
    update public.purchases as p set payment_intent_id = payment
    where p.account_id = known.account_id and p.id = known.purchase_id and p.payment_intent_id is null;
  end if;
  perform credits.net_payment(payment);
  return 'changed';
end
$$;

comment on function credits.apply_invoice_payment(jsonb) is
'Learns which payment intent pays an invoice, so that its refunds and disputes find the purchase. Returns changed, '
'unchanged or ignored.';
