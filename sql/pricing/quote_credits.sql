create function public.quote_credits(
  operation text,
  quantity integer default 1,
  options jsonb default null,
  inputs integer default null,
  mask boolean default false,
  prompt_length integer default 0
) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  price record;
  generation record;
  available bigint;
  frozen boolean;
begin
  perform credits.caller();
  if options is null then
    select p.credits, p.version into price from credits.price(operation, quantity) as p;
  else
    select g.amount as credits, g.version, g.refusal into generation
    from credits.generation_price(
      quote_credits.operation, quote_credits.quantity, quote_credits.options, quote_credits.inputs, quote_credits.mask,
      quote_credits.prompt_length
    ) as g;
    if generation.refusal is not null then
      perform credits.fail(
        'PT400', generation.refusal, jsonb_build_object('operation', operation),
        'The terms of an operation are in its row of pricing_tiers.'
      );
    end if;
    price := generation;
  end if;
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

comment on function public.quote_credits(text, integer, jsonb, integer, boolean, integer) is
'What the operation would cost the signed-in user now, without spending: {operation, quantity, credits, '
'price_version, available, affordable}. Without options: quantity units, as consume_credits and hold_credits sell '
'them. With options, {} included: quantity outputs of generate with them, with inputs images (as few as it takes '
'when left out), and a mask. Not affordable while the account is frozen. Errors: PT400 quantity or what does not fit '
'the price''s terms, PT403 not signed in, PT404 unknown operation.';

grant execute on function public.quote_credits(text, integer, jsonb, integer, boolean, integer) to authenticated;
