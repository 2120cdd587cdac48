create function credits.price(operation text, quantity integer) returns table (
  id bigint,
  credits_per_unit numeric,
  version bigint,
  credits bigint
)
language sql
stable
as $$
  select
    t.id,
    t.credits_per_unit,
    t.version,
    case when price.quantity = 1 or price.quantity between 1 and credits.max_quantity()
    then ceil(t.credits_per_unit * price.quantity)::bigint end
  from public.pricing_tiers as t
  where t.operation = price.operation and t.active and t.effective_from <= credits.now()
  order by t.effective_from desc
  limit 1;
$$;

comment on function credits.price(text, integer) is
'What the quantity of the operation costs now, by the pricing_tiers row in force (active, in effect, the latest): its '
'id, credits for one unit, version, and the whole, ceil(credits_per_unit * quantity), in credits. No row for an '
'operation that is not sold, null credits for a quantity out of range: then call credits.refuse_price. The one place '
'that looks a price up; credits.generation_price adds what options and inputs cost. Every spend runs it: without a '
'SET clause it is planned as part of its caller, and one unit is priced without looking up the limit.';
