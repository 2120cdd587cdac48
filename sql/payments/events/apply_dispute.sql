create function credits.apply_dispute(dispute jsonb, event_type text) returns text
language plpgsql
set search_path = ''
as $$
declare
  payment text := credits.stripe_id(dispute -> 'payment_intent');
  stages constant text [] := array[
    'warning_needs_response', 'warning_under_review', 'warning_closed', 'needs_response', 'under_review', 'prevented',
    'lost', 'won'
  ];
begin
  if payment is null then
    return 'ignored: The dispute names no payment intent.';
  end if;
  perform credits.lock_stripe_object(payment);
  insert into credits.stripe_disputes as d (id, payment_intent_id, amount, currency, status, withdrawn, reinstated)
  values (
    dispute ->> 'id', payment, (dispute ->> 'amount')::bigint, dispute ->> 'currency', dispute ->> 'status',
    event_type is not distinct from 'charge.dispute.funds_withdrawn'
    or exists (
      select from jsonb_array_elements(dispute -> 'balance_transactions') as b where (b.value ->> 'amount')::bigint < 0
    ),
    event_type is not distinct from 'charge.dispute.funds_reinstated'
    -- Of its movements of money, one may bring it back.
    or exists (
      select from jsonb_array_elements(dispute -> 'balance_transactions') as b where (b.value ->> 'amount')::bigint > 0
    )
  )
  on conflict (id) do update set
    status = case
      when array_position(stages, excluded.status) > array_position(stages, d.status) then excluded.status
      else d.status
    end,
    -- An inquiry can become a dispute of another amount.
    amount = case
      when array_position(stages, excluded.status) > array_position(stages, d.status) then excluded.amount
      else d.amount
    end,
    withdrawn = d.withdrawn or excluded.withdrawn,
    reinstated = d.reinstated or excluded.reinstated
  where
    array_position(stages, excluded.status) > array_position(stages, d.status)
    or excluded.withdrawn and not d.withdrawn
    or excluded.reinstated and not d.reinstated;
  if not found then
    return 'unchanged';
  end if;
  perform credits.net_payment(payment);
  return 'changed';
end
$$;

comment on function credits.apply_dispute(jsonb, text) is
'Notes how far a dispute has come; takes its share of the credits and freezes the account while it stands, gives '
'back exactly what was taken once it is won or the money is reinstated. One that was prevented freezes nothing; it '
'takes its share if Stripe took the money for it. Inquiries (warning_…) are noted only. Returns changed, unchanged '
'or ignored.';
