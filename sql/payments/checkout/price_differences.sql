create function credits.price_differences(
  price jsonb,
  currency text,
  unit_amount bigint,
  period_interval text,
  period_count integer,
  is_sold boolean
) returns text[]
language sql
immutable
set search_path = ''
as $$
  select case
    when price is null then array['Stripe has no such Price.']
    else array(
      select format('%s is %s here, %s in Stripe.', d.what, coalesce(d.ours, 'none'), coalesce(d.theirs, 'none'))
      from (
        values
        (1, 'currency', currency, price ->> 'currency'),
        (2, 'unit_amount', unit_amount::text, price ->> 'unit_amount'),
        (3, 'type', case when period_interval is null then 'one_time' else 'recurring' end, price ->> 'type'),
        (4, 'interval', period_interval, price #>> '{recurring,interval}'),
        (5, 'interval_count', period_count::text, price #>> '{recurring,interval_count}'),
        -- A Price that counts otherwise than so much a piece charges another amount than the row says.
        (6, 'billing_scheme', 'per_unit', price ->> 'billing_scheme'),
        (7, 'transform_quantity', null, nullif(price -> 'transform_quantity', 'null')::text),
        (8, 'custom_unit_amount', null, nullif(price -> 'custom_unit_amount', 'null')::text),
        (
          9, 'usage_type', case when period_interval is not null then 'licensed' end, price #>> '{recurring,usage_type}'
        ),
        -- Who subscribed to a row that is no longer sold goes on paying a Price that may be archived.
        (10, 'active', case when is_sold then 'true' else price ->> 'active' end, price ->> 'active')
      ) as d (place, what, ours, theirs)
      where d.ours is distinct from d.theirs
      order by d.place
    )
  end;
$$;

comment on function credits.price_differences(jsonb, text, bigint, text, integer, boolean) is
'What a Stripe Price says otherwise than the row that names it, a sentence each; empty when Stripe charges what the '
'row says. price: null when Stripe has none. period_interval, period_count: of a plan; null for a package.';
