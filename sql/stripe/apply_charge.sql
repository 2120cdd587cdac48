create function credits.apply_charge(charge jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(charge -> 'payment_intent');
begin
  if payment is null or charge ->> 'amount_refunded' = '0' then
    return 'ignored: Nothing of the charge was refunded, or it has no payment intent.';
  end if;
  perform credits.lock_stripe_object(payment);
  insert into credits.stripe_payments as p (payment_intent_id, refunded)
  values (payment, (charge ->> 'amount_refunded')::bigint)
  on conflict (payment_intent_id) do update set refunded = excluded.refunded
  where excluded.refunded > p.refunded;
  if not found then
    return 'unchanged';
  end if;
  perform credits.net_payment(payment);
  return 'changed';
end
$$;

comment on function credits.apply_charge(jsonb) is
'Notes the total that a charge says was refunded, and holds its purchase against it. Returns changed, unchanged or '
'ignored.';
