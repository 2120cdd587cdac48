create function credits.generation_price(
  operation text,
  quantity integer,
  options jsonb,
  inputs integer,
  mask boolean,
  prompt_length integer,
  out version bigint,
  out unit_price numeric,
  out units integer,
  out amount bigint,
  out settled jsonb,
  out refusal text
)
language plpgsql
stable
set search_path = ''
as $$
declare
  unit text;
  terms jsonb;
  least_images integer;
  most_images integer;
  most integer := credits.max_quantity();
  name text;
  spec jsonb;
  adds numeric;
begin
  select p.version, p.credits_per_unit, t.unit, t.terms into version, unit_price, unit, terms
  from credits.price(generation_price.operation, 1) as p
  inner join public.pricing_tiers as t on p.id = t.id;
  if not found then
    return;
  end if;
  settled := coalesce(options, '{}');
  least_images := coalesce((terms #>> '{inputs,min}')::integer, 0);
  most_images := coalesce((terms #>> '{inputs,max}')::integer, 0);
  inputs := coalesce(inputs, least_images);

  refusal := case
    when quantity is null or quantity < 1 then 'n is a whole number from 1 on.'
    when quantity > coalesce((terms ->> 'max_n')::integer, most)
      then format('n is at most %s for %s.', coalesce((terms ->> 'max_n')::integer, most), operation)
    when prompt_length > (terms ->> 'max_prompt')::integer
      then format('The prompt is longer than the %s characters of %s.', terms ->> 'max_prompt', operation)
    when inputs > most_images and most_images = 0 then format('%s takes no images.', operation)
    when inputs > most_images and most_images = 1 then format('%s takes one image.', operation)
    when inputs > most_images then format('%s takes at most %s images.', operation, most_images)
    when inputs < 0 then 'inputs is a number of images.'
    when inputs < least_images and least_images = 1 then format('%s needs an image in inputs.', operation)
    when inputs < least_images then format('%s needs %s images in inputs.', operation, least_images)
    when mask and not coalesce((terms -> 'mask')::boolean, false) then format('%s takes no mask.', operation)
    when mask and inputs = 0 then 'A mask needs an image in inputs.'
    when jsonb_typeof(settled) <> 'object' then 'options is an object.'
  end;
  if refusal is not null then
    return;
  end if;
  unit_price := unit_price + coalesce((terms #>> '{inputs,credits}')::numeric, 0) * (inputs - least_images);

  terms := coalesce(terms -> 'options', '{}');
  select min(o.key) into name from jsonb_object_keys(settled) as o (key) where not terms ? o.key;
  if name is not null then
    refusal := format(
      '%s knows these options: %s.', operation,
      coalesce((select string_agg(o.key, ', ' order by o.key) from jsonb_object_keys(terms) as o (key)), 'none')
    );
    return;
  end if;
  for name, spec in select o.key, o.value from jsonb_each(terms) as o (key, value) loop
    if settled ? name then
      adds := credits.option_surcharge(spec, settled -> name);
      if adds is null then
        refusal := format(
          'The option %s of %s is %s.', name, operation,
          case jsonb_typeof(spec -> 'values')
            when 'array'
              then 'one of ' || (select string_agg(a.v, ', ') from jsonb_array_elements_text(spec -> 'values') as a (v))
            when 'object'
              then 'one of ' || (select string_agg(a.v, ', ') from jsonb_object_keys(spec -> 'values') as a (v))
            else format('a whole number from %s to %s', spec ->> 'min', spec ->> 'max')
          end
        );
        return;
      end if;
      unit_price := unit_price + adds;
    elsif spec ? 'default' then
      settled := settled || jsonb_build_object(name, spec -> 'default');
    end if;
  end loop;

  if unit = 'second' and not settled ? 'duration' then
    refusal := format(
      '%s is sold by the second, but its price has no option duration; tell the app''s operator.', operation
    );
  elsif unit = 'second' and quantity::bigint * (settled ->> 'duration')::bigint > most then
    refusal := format('n times duration is at most %s seconds.', most);
  else
    units := quantity * case when unit = 'second' then (settled ->> 'duration')::integer else 1 end;
    amount := ceil(unit_price * units);
  end if;
end
$$;

comment on function credits.generation_price(text, integer, jsonb, integer, boolean, integer) is
'What a generation of quantity outputs with these options, number of input images (null: as few as it takes), mask '
'and length of prompt costs now, by the pricing_tiers row in force and its terms: version; unit_price, which is '
'credits_per_unit and all that options and inputs add; units (with the unit "second": quantity times duration); '
'amount in credits, ceil(unit_price * units); settled: the options with defaults, as the provider gets them. '
'refusal, a sentence for the user, in place of an amount where it does not fit the terms. No version: the operation '
'is not sold.';
