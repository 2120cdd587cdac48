create function credits.usage_filter(filter jsonb) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  most constant integer := 50;
  moment timestamptz := credits.now();
  checked jsonb := jsonb_build_object();
  name text;
  wanted jsonb;
  unknown text;
begin
  if jsonb_typeof(coalesce(filter, '{}')) <> 'object' then
    perform credits.fail(
      'PT400', 'filter must be an object.', '{}', 'Such as {"operation": ["image_edit"], "provider": "openai"}.'
    );
  end if;
  for name, wanted in select f.key, f.value from jsonb_each(filter) as f (key, value) loop
    if name not in ('operation', 'provider', 'model') then
      perform credits.fail(
        'PT400', 'filter knows operation, provider and model only.', jsonb_build_object('filter', left(name, 100)),
        'Usage can be told apart by these.'
      );
    end if;
    wanted := case jsonb_typeof(wanted) when 'string' then jsonb_build_array(wanted) else wanted end;
    if
      jsonb_typeof(wanted) <> 'array' or jsonb_array_length(wanted) not between 1 and most
      or jsonb_path_exists(wanted, '$[*] ? (@.type() != "string")')
    then
      perform credits.fail(
        'PT400', format('filter.%s must be a name, or a list of 1 to %s names.', name, most),
        jsonb_build_object('filter', name, 'limit', most), 'Leave it out for all.'
      );
    end if;
    -- Of prices that were in force, which everybody could see: a name that is still to come is nobody's to guess.
    select min(w.value) into unknown
    from jsonb_array_elements_text(wanted) as w (value)
    where not exists (
      select from credits.pricing_tier_history as h
      where
        h.new ->> name = w.value and (h.new -> 'active')::boolean
        and (h.new ->> 'effective_from')::timestamptz <= moment
    );
    if unknown is not null then
      perform credits.fail(
        'PT400', format('There is no such %s.', name), jsonb_build_object(name, left(unknown, 100)),
        'The rows of pricing_tiers have the names that are on sale now.'
      );
    end if;
    checked := checked || jsonb_build_object(name, wanted);
  end loop;
  return checked;
end
$$;

comment on function credits.usage_filter(jsonb) is
'The filter of public.credit_usage with a list for each name. PT400: names it does not know, or that were never on '
'sale.';
