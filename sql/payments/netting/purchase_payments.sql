create function credits.purchase_payments(purchase public.purchases) returns text[]
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return array(
    select s.payment_intent_id from credits.stripe_payments as s where s.invoice_id = purchase.invoice_id
    union
    select purchase.payment_intent_id where purchase.payment_intent_id is not null
    order by 1
  );
end
$$;

comment on function credits.purchase_payments(public.purchases) is
'The payment intents that paid a purchase, in order: one for a session; as many as Stripe tells for an invoice.';
