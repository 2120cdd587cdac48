create function credits.apply_fraud_warning(warning jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(warning -> 'payment_intent');
begin
  if payment is null then
    return 'ignored: The warning names no payment intent.';
  end if;
  perform credits.lock_stripe_object(payment);
  insert into credits.stripe_payments (payment_intent_id) values (payment) on conflict (payment_intent_id) do nothing;
  insert into credits.stripe_fraud_warnings (id, payment_intent_id, fraud_type, freezes)
  select warning ->> 'id', payment, warning ->> 'fraud_type', s.freeze_on_fraud_warning
  from credits.billing_settings as s
  on conflict (id) do nothing;
  if not found then
    return 'unchanged';
  end if;
  perform credits.net_payment(payment);
  return 'changed';
end
$$;

comment on function credits.apply_fraud_warning(jsonb) is
'Notes that a card issuer warned of fraud; freezes the account if billing_settings.freeze_on_fraud_warning says so. '
'Takes no credits: a refund or a dispute does. Returns changed, unchanged or ignored.';
