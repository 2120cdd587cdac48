create function credits.balance_figures(
  transaction jsonb,
  out amount bigint,
  out fee bigint,
  out currency text,
  out exchange_rate numeric,
  out booked_at timestamptz
)
language sql
immutable
set search_path = ''
as $$
  select
    (transaction ->> 'amount')::bigint,
    (transaction ->> 'fee')::bigint,
    transaction ->> 'currency',
    (transaction ->> 'exchange_rate')::numeric,
    to_timestamp((transaction ->> 'created')::bigint)
  where jsonb_typeof(transaction) = 'object';
$$;

comment on function credits.balance_figures(jsonb) is
'What a balance transaction of Stripe''s says, as credits.stripe_balance_transactions has it; nulls for its id alone.';
