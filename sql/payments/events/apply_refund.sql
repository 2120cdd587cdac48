create function credits.apply_refund(refund jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(refund -> 'payment_intent');
  told text := coalesce(refund ->> 'status', 'pending');
  is_known boolean := told <> 'unknown' and told = any(enum_range(null::credits.refund_stage)::text[]);
  is_booked boolean;
begin
  if payment is null then
    return 'ignored: The refund is of a charge without a payment intent, and we make none.';
  end if;
  perform credits.lock_stripe_object(payment);
  is_booked := credits.note_balance_transaction(refund -> 'balance_transaction', payment, refund ->> 'id', 'refund');
  is_booked := credits.note_balance_transaction(
    refund -> 'failure_balance_transaction', payment, refund ->> 'id', 'refund_failure'
  ) or is_booked;
  insert into credits.stripe_payments (payment_intent_id) values (payment) on conflict (payment_intent_id) do nothing;
  insert into credits.stripe_refunds as r (id, payment_intent_id, amount, status, unknown_status)
  values (
    refund ->> 'id', payment, (refund ->> 'amount')::bigint,
    case when is_known then told else 'unknown' end::credits.refund_stage, case when not is_known then told end
  )
  on conflict (id) do update set status = excluded.status, unknown_status = excluded.unknown_status
  where excluded.status > r.status;
  if found then
    perform credits.net_payment(payment);
  elsif not is_booked then
    return 'unchanged';
  end if;
  return 'changed';
end
$$;

comment on function credits.apply_refund(jsonb) is
'Notes how far a refund has come, and how Stripe booked it; credits.claw_back_share says how many credits that takes. '
'A refund that fails after it succeeded is the later news, whatever the order of arrival; one in a state that Stripe '
'has invented since counts until another is told. Returns changed, unchanged or ignored.';
