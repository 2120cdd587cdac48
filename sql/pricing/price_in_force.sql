create function credits.price_in_force(operation text) returns setof public.pricing_tiers
language sql
stable
as $$
  select t.*
  from public.pricing_tiers as t
  where t.operation = price_in_force.operation and t.active and t.effective_from <= credits.now()
  order by t.effective_from desc
  limit 1;
$$;

comment on function credits.price_in_force(text) is
'The pricing_tiers row that counts now for the operation: active, in effect, the latest. No row when it is not sold.';
