create function credits.apply_refund(refund jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(refund -> 'payment_intent');
  stages constant text [] := array['pending', 'requires_action', 'succeeded', 'failed', 'canceled'];
begin
  if payment is null then
    return 'ignored: The refund is of a charge without a payment intent, and we make none.';
  end if;
  perform credits.lock_stripe_object(payment);
  insert into credits.stripe_refunds as r (id, payment_intent_id, amount, status)
  values (refund ->> 'id', payment, (refund ->> 'amount')::bigint, coalesce(refund ->> 'status', 'pending'))
  on conflict (id) do update set status = excluded.status
  where array_position(stages, excluded.status) > array_position(stages, r.status);
  if not found then
    return 'unchanged';
  end if;
  perform credits.net_payment(payment);
  return 'changed';
end
$$;

comment on function credits.apply_refund(jsonb) is
'Notes how far a refund has come and holds its purchase against it. A refund that fails after it succeeded is the '
'later news, whatever the order of arrival. Returns changed, unchanged or ignored.';
