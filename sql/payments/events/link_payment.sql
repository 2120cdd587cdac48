create function credits.link_payment(account_id uuid, purchase_id bigint, payment_intent_id text) returns void
language plpgsql
set search_path = ''
as $$
declare
  paid credits.stripe_payments;
begin
  insert into credits.stripe_payments as p (payment_intent_id, account_id, purchase_id)
  values (link_payment.payment_intent_id, link_payment.account_id, link_payment.purchase_id)
  on conflict on constraint stripe_payments_pkey do update set
    account_id = coalesce(p.account_id, excluded.account_id),
    purchase_id = coalesce(p.purchase_id, excluded.purchase_id)
  returning * into paid;
  if (paid.account_id, paid.purchase_id) <> (link_payment.account_id, link_payment.purchase_id) then
    perform credits.fail(
      'PT422', 'The payment has paid another purchase already.',
      jsonb_build_object('payment_intent', link_payment.payment_intent_id), 'Dismiss one of them.'
    );
  end if;
end
$$;

comment on function credits.link_payment(uuid, bigint, text) is
'Notes which purchase a payment intent pays. PT422 if it is another''s. The caller holds the payment''s lock.';
