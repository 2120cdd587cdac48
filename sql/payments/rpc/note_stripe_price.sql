create function public.note_stripe_price(price_id text, price jsonb default null) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
begin
  if coalesce(price_id, '') !~ '^price_[A-Za-z0-9_]{1,200}$' then
    perform credits.fail('PT400', 'price_id must be a Stripe Price''s id.', '{}', 'It starts with price_.');
  elsif jsonb_typeof(price) <> 'null' and price ->> 'id' is distinct from price_id then
    perform credits.fail('PT400', 'price must be the Stripe Price of that id.', '{}', 'Send it as Stripe returns it.');
  end if;
  insert into credits.stripe_prices as s (id, price, checked_at)
  values (price_id, nullif(price, 'null'), credits.now())
  on conflict (id) do update set price = excluded.price, checked_at = excluded.checked_at;
  return (
    select coalesce(
      jsonb_agg(
        jsonb_build_object('kind', r.kind, 'slug', r.slug, 'currency', r.currency, 'differences', r.differences)
        order by r.kind, r.slug
      ),
      '[]'
    )
    from credits.priced_rows as r
    where r.stripe_price_id = price_id and r.differences <> '{}'
  );
end
$$;

comment on function public.note_stripe_price(text, jsonb) is
'For checkout and reconciliation: notes a Price as Stripe returns it now, null when Stripe has none of that id. '
'Returns the rows that it differs from: [{kind, slug, currency, differences}], the differences as sentences. PT400 '
'for what is no Price.';

grant execute on function public.note_stripe_price(text, jsonb) to service_role;
