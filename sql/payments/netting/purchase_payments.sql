create function credits.purchase_payments(purchase public.purchases) returns text[]
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return array(
    select s.payment_intent_id from credits.stripe_payments as s
    where s.account_id = purchase.account_id and s.purchase_id = purchase.id
    order by 1
  );
end
$$;

comment on function credits.purchase_payments(public.purchases) is
'The payment intents that paid a purchase, in order: one for a session; as many as Stripe tells for an invoice.';
