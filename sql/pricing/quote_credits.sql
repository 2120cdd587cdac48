create function public.quote_credits(operation text, quantity integer default 1) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  price record;
  available bigint;
  frozen boolean;
begin
  perform credits.caller();
  select * into price from credits.price(operation, quantity);
  if price.credits is null then
    perform credits.refuse_price(operation, quantity);
  end if;
  select p.available, p.frozen_at is not null into available, frozen from credits.my_position() as p;
  available := coalesce(available, 0);
  return jsonb_build_object(
    'operation', operation,
    'quantity', quantity,
    'credits', price.credits,
    'price_version', price.version,
    'available', available,
    'affordable', available >= price.credits and not coalesce(frozen, false)
  );
end
$$;

comment on function public.quote_credits(text, integer) is
'What the operation would cost the signed-in user now, without spending: {operation, quantity, credits, price_version, '
'available, affordable}. Not affordable while the account is frozen. Errors: PT400 quantity, PT403 not signed in, '
'PT404 unknown operation.';

grant execute on function public.quote_credits(text, integer) to authenticated;
