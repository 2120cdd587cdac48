create function credits.option_surcharge(spec jsonb, value jsonb) returns numeric
language sql
immutable
set search_path = ''
as $$
  select case jsonb_typeof(spec -> 'values')
    when 'array' then (
      select 0
      from jsonb_array_elements(spec -> 'values') as v (item)
      where v.item = option_surcharge.value and v.item::text = option_surcharge.value::text
    )
    when 'object' then (
      select v.adds::numeric
      from jsonb_each_text(spec -> 'values') as v (item, adds)
      where
        v.item = option_surcharge.value #>> '{}'
        and jsonb_typeof(option_surcharge.value) = case when v.item ~ '^-?[0-9]+$' then 'number' else 'string' end
    )
    else case
      -- Only then is it a number that a comparison can take.
      when jsonb_typeof(value) <> 'number' or (value #>> '{}') !~ '^-?[0-9]{1,16}$' then null
      when (value #>> '{}')::numeric between (spec ->> 'min')::numeric and (spec ->> 'max')::numeric then 0
    end
  end;
$$;

comment on function credits.option_surcharge(jsonb, jsonb) is
'What a value of an option adds to the price of a unit, in credits, by the option''s part of pricing_tiers.terms; null '
'for a value that it does not have.';
