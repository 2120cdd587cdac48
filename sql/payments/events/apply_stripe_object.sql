create function credits.apply_stripe_object(object jsonb, event_type text default null) returns text
language plpgsql
set search_path = ''
as $$
begin
  return case object ->> 'object'
    when 'checkout.session' then credits.apply_checkout_session(object, event_type)
    when 'invoice' then credits.apply_invoice(object)
    when 'invoice_payment' then credits.apply_invoice_payment(object)
    when 'subscription' then credits.apply_subscription(object, event_type is not null)
    when 'refund' then credits.apply_refund(object)
    when 'charge' then credits.apply_charge(object)
    when 'dispute' then credits.apply_dispute(object, event_type)
    when 'radar.early_fraud_warning' then credits.apply_fraud_warning(object)
    when 'balance_transaction' then credits.apply_balance_transaction(object)
    when 'customer' then credits.apply_customer(object, event_type)
    else 'ignored: Such objects have no effect here.'
  end;
end
$$;

comment on function credits.apply_stripe_object(jsonb, text) is
'The effects of one Stripe object, from an event of event_type or as retrieved (null). What an object means is in '
'the object, not in when it came: so it may come late, twice and in any order. Returns changed, unchanged, or '
'ignored: and why, as each apply function does.';
