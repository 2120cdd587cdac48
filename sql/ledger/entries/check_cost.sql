create function credits.check_cost(source public.grant_source, cost_basis bigint, currency text) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if cost_basis not between 0 and 1000000000000000 then
    perform credits.fail(
      'PT400', 'cost_basis must be from 0 to a quadrillion, in minor units.', jsonb_build_object('cost_basis', cost_basis),
      'Leave it out where it is not known.'
    );
  elsif cost_basis > 0 and source in ('bonus', 'referral', 'promo') then
    perform credits.fail(
      'PT400', format('A %s was not paid for: its cost_basis is 0.', source),
      jsonb_build_object('source', source, 'cost_basis', cost_basis), 'Leave cost_basis out, or name another source.'
    );
  elsif currency !~* '^[a-z]{3}$' then
    perform credits.fail(
      'PT400', 'currency must be an ISO 4217 code.', jsonb_build_object('currency', left(currency, 100)),
      'Send three letters, such as usd.'
    );
  elsif coalesce(cost_basis, 0) > 0 and currency is null or cost_basis is null and currency is not null then
    perform credits.fail(
      'PT400', 'cost_basis and currency come together.',
      jsonb_build_object('cost_basis', cost_basis, 'currency', currency), 'Send both or neither.'
    );
  end if;
end
$$;

comment on function credits.check_cost(public.grant_source, bigint, text) is
'Refuses with PT400 what cannot be the cost_basis and currency of a lot from this source.';
