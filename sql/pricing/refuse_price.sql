create function credits.refuse_price(operation text, quantity integer) returns void
language plpgsql
stable
set search_path = ''
as $$
declare
  most integer := credits.max_quantity();
begin
  if quantity between 1 and most then
    perform credits.fail(
      'PT404', 'There is no such operation.', jsonb_build_object('operation', left(operation, 100)),
      'The operations on sale are the rows of pricing_tiers.'
    );
  end if;
  perform credits.fail(
    'PT400', format('quantity must be a whole number from 1 to %s.', most),
    jsonb_build_object('quantity', quantity, 'limit', most), 'Send a quantity in that range.'
  );
end
$$;

comment on function credits.refuse_price(text, integer) is
'Why credits.price found no price: PT400 quantity, PT404 operation.';
