create function credits.price_in_force_id(operation text) returns bigint
language sql
stable
security definer
set search_path = ''
as $$
  select p.id from credits.price(price_in_force_id.operation, 1) as p;
$$;

comment on function credits.price_in_force_id(text) is
'Id of the price in force; what the read policy of pricing_tiers asks.';

grant execute on function credits.price_in_force_id(text) to anon, authenticated;

create policy prices_in_force on public.pricing_tiers for select to anon, authenticated
using (id = credits.price_in_force_id(operation));

create policy pricing_admin_edits on public.pricing_tiers for all to pricing_admin
using (true) with check (true);
