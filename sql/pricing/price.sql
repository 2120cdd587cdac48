create function credits.price(operation text, quantity integer) returns table (
  credits_per_unit numeric,
  version bigint,
  credits bigint
)
language sql
stable
as $$
  select p.credits_per_unit, p.version, ceil(p.credits_per_unit * price.quantity)::bigint
  from credits.price_in_force(price.operation) as p
  where price.quantity between 1 and (select s.max_quantity from credits.billing_settings as s);
$$;

comment on function credits.price(text, integer) is
'What the quantity of the operation costs now: credits for one unit, the price''s version, and the whole, '
'ceil(credits_per_unit * quantity), in credits. No row for an unknown operation or a quantity out of range: then call '
'credits.refuse_price. The one place that prices a call. Has no SET clause so that it is planned as part of its '
'caller.';
