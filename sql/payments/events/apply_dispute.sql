create function credits.apply_dispute(dispute jsonb, event_type text) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(dispute -> 'payment_intent');
  told text := coalesce(dispute ->> 'status', '');
  is_known boolean := told <> 'unknown' and told = any(enum_range(null::credits.dispute_stage)::text[]);
  booked jsonb;
  is_booked boolean := false;
begin
  if payment is null then
    return 'ignored: The dispute names no payment intent.';
  end if;
  perform credits.lock_stripe_object(payment);
  for booked in
    select b.value from jsonb_array_elements(dispute -> 'balance_transactions') as b
  loop
    is_booked := credits.note_balance_transaction(booked, payment, dispute ->> 'id', 'dispute') or is_booked;
  end loop;
  insert into credits.stripe_payments (payment_intent_id) values (payment) on conflict (payment_intent_id) do nothing;
  insert into credits.stripe_disputes as d (
    id, payment_intent_id, amount, currency, status, unknown_status, withdrawn, reinstated
  )
  values (
    dispute ->> 'id', payment, (dispute ->> 'amount')::bigint, dispute ->> 'currency',
    case when is_known then told else 'unknown' end::credits.dispute_stage, case when not is_known then told end,
    event_type is not distinct from 'charge.dispute.funds_withdrawn'
    or exists (
      select from jsonb_array_elements(dispute -> 'balance_transactions') as b where (b.value ->> 'amount')::numeric < 0
    ),
    event_type is not distinct from 'charge.dispute.funds_reinstated'
    -- Of its movements of money, one may bring it back.
    or exists (
      select from jsonb_array_elements(dispute -> 'balance_transactions') as b where (b.value ->> 'amount')::numeric > 0
    )
  )
  on conflict (id) do update set
    status = greatest(d.status, excluded.status),
    unknown_status = case when excluded.status > d.status then excluded.unknown_status else d.unknown_status end,
    -- An inquiry can become a dispute of another amount.
    amount = case when excluded.status > d.status then excluded.amount else d.amount end,
    withdrawn = d.withdrawn or excluded.withdrawn,
    reinstated = d.reinstated or excluded.reinstated
  where
    excluded.status > d.status
    or excluded.withdrawn and not d.withdrawn
    or excluded.reinstated and not d.reinstated;
  if found then
    perform credits.net_payment(payment);
  elsif not is_booked then
    return 'unchanged';
  end if;
  return 'changed';
end
$$;

comment on function credits.apply_dispute(jsonb, text) is
'Notes how far a dispute has come; takes its share of the credits and freezes the account while it stands '
'(credits.freeze_for_disputes), gives back exactly what was taken once it is won or the money is reinstated. One that '
'was prevented freezes nothing; it takes its share if Stripe took the money for it; so does one in a state that Stripe '
'has invented since. Inquiries (warning_…) are noted only. Returns changed, unchanged or ignored.';
