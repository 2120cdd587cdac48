create function credits.check_terms(terms jsonb, unit text) returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  known constant text[] := array[
    'output', 'inputs', 'mask', 'max_n', 'max_prompt', 'options', 'deadline_seconds', 'charge_refusals'
  ];
  inputs jsonb := coalesce(terms -> 'inputs', '{}');
  wrong text;
  name text;
  spec jsonb;
  entry record;
begin
  if jsonb_typeof(terms) is distinct from 'object' or octet_length(terms::text) > 8192 then
    wrong := 'terms must be a JSON object of at most 8 KiB.';
  elsif terms - known <> '{}' then
    wrong := format(
      'terms know no %s, only %s.', (select min(o.k) from jsonb_object_keys(terms - known) as o (k)),
      array_to_string(known, ', ')
    );
  elsif coalesce(terms -> 'output' not in ('"image"', '"text"', '"video"'), false) then
    wrong := 'terms.output must be "image", "text" or "video".';
  elsif not credits.is_whole(terms -> 'max_n', 1, 1000) then
    wrong := 'terms.max_n must be a whole number from 1 to 1000.';
  elsif not credits.is_whole(terms -> 'max_prompt', 1, 1000000) then
    wrong := 'terms.max_prompt must be a whole number of characters from 1 to 1000000.';
  elsif not credits.is_whole(terms -> 'deadline_seconds', 5, 86400) then
    wrong := 'terms.deadline_seconds must be a whole number from 5 to 86400.';
  elsif coalesce(jsonb_typeof(terms -> 'charge_refusals') <> 'boolean', false) then
    wrong := 'terms.charge_refusals must be true or false.';
  elsif coalesce(jsonb_typeof(terms -> 'mask') <> 'boolean', false) then
    wrong := 'terms.mask must be true or false.';
  elsif jsonb_typeof(inputs) <> 'object' or inputs - array['min', 'max', 'credits'] <> '{}' then
    wrong := 'terms.inputs must be an object of min, max and credits.';
  elsif (terms ? 'inputs' and not inputs ? 'max') or not credits.is_whole(inputs -> 'max', 0, 16) then
    wrong := 'terms.inputs.max must be a whole number from 0 to 16.';
  elsif not credits.is_whole(inputs -> 'min', 0, (inputs ->> 'max')::integer) then
    wrong := 'terms.inputs.min must be a whole number from 0 to max.';
  elsif not credits.is_surcharge(inputs -> 'credits') then
    wrong := 'terms.inputs.credits must be from 0 to 1000000, with up to 4 decimals.';
  elsif terms -> 'mask' = 'true' and coalesce((inputs ->> 'max')::integer, 0) = 0 then
    wrong := 'terms.mask needs inputs.max from 1 on: a mask is for an image.';
  elsif coalesce(jsonb_typeof(terms -> 'options') <> 'object', false) then
    wrong := 'terms.options must be an object of options by name.';
  end if;
  if wrong is not null then
    perform credits.fail('PT400', wrong, '{}', 'supabase/README.md of supabase-credits, "Prices", has the terms of a price.');
  end if;

  for name, spec in select o.key, o.value from jsonb_each(terms -> 'options') as o (key, value) loop
    wrong := case
      when name !~ '^[a-z][a-z0-9_]{0,39}$' then 'is no name of an option: snake_case, up to 40 letters.'
      when jsonb_typeof(spec) <> 'object' or spec - array['values', 'min', 'max', 'default'] <> '{}'
        then 'must be an object of values, or of min and max, and default.'
      when (spec ? 'values') = (spec ?| array['min', 'max']) then 'must have either values, or min and max.'
      when spec ? 'values' and jsonb_typeof(spec -> 'values') not in ('array', 'object')
        then 'must have values as a list, or as an object of what each value adds in credits.'
      when spec ? 'values' then null
      when
        not (spec ? 'min' and spec ? 'max')
        or not credits.is_whole(spec -> 'max', -9007199254740991, 9007199254740991)
        then 'must have whole numbers as min and max.'
      when not credits.is_whole(spec -> 'min', -9007199254740991, (spec ->> 'max')::numeric)
        then 'must have a whole number as min, not over max.'
    end;
    if wrong is null and jsonb_typeof(spec -> 'values') = 'array' then
      if spec -> 'values' = '[]' or exists (
        select from jsonb_array_elements(spec -> 'values') as a (v)
        where not (
          jsonb_typeof(v) = 'string' and char_length(v #>> '{}') between 1 and 100
          or jsonb_typeof(v) = 'number' and credits.is_whole(v, -9007199254740991, 9007199254740991)
        )
      ) then
        wrong := 'must list words and whole numbers, one at least.';
      end if;
    elsif wrong is null and jsonb_typeof(spec -> 'values') = 'object' then
      for entry in select v.key, v.value from jsonb_each(spec -> 'values') as v (key, value) loop
        if char_length(entry.key) not between 1 and 100 or not credits.is_surcharge(entry.value) then
          wrong := 'must say of each value what it adds: from 0 to 1000000 credits, with up to 4 decimals.';
        end if;
      end loop;
      if spec -> 'values' = '{}' then
        wrong := 'must have a value at least.';
      elsif
        wrong is null
        and not spec ? 'default'
        and exists (select from jsonb_each_text(spec -> 'values') as v (key, value) where v.value::numeric <> 0)
      then
        -- What the provider takes when nothing is said could be its dearest.
        wrong := 'must have a default, since some of its values cost more.';
      end if;
    end if;
    if wrong is null and spec ? 'default' and credits.option_surcharge(spec, spec -> 'default') is distinct from 0 then
      wrong := 'must have a default that is one of its values and adds nothing: credits_per_unit is its price.';
    end if;
    if wrong is null and name = 'duration' and unit = 'second' then
      if
        not spec ? 'default'
        or not credits.is_whole(spec -> 'min', 1, 86400) or not credits.is_whole(spec -> 'max', 1, 86400)
        or exists (
          select from jsonb_array_elements(
            case jsonb_typeof(spec -> 'values') when 'array' then spec -> 'values' else '[]' end
          ) as a (v)
          where not credits.is_whole(a.v, 1, 86400)
        )
        or exists (
          select from jsonb_object_keys(
            case jsonb_typeof(spec -> 'values') when 'object' then spec -> 'values' else '{}' end
          ) as o (k)
          where o.k !~ '^[1-9][0-9]{0,4}$'
        )
      then
        wrong := 'must have whole seconds from 1 to 86400 and a default, since seconds are what the price counts.';
      end if;
    end if;
    if wrong is not null then
      perform credits.fail(
        'PT400', format('terms.options.%s %s', name, wrong), jsonb_build_object('option', name),
        'supabase/README.md of supabase-credits, "Prices", has the terms of a price.'
      );
    end if;
  end loop;
end
$$;

comment on function credits.check_terms(jsonb, text) is
'PT400 unless pricing_tiers.terms are {output: "image" (default), "text" or "video"; inputs: {min, max: images that '
'the user gives, up to 16 (default: none), credits: what each beyond min adds to a unit}; mask: whether one may come '
'with them; max_n: outputs of a request; max_prompt: characters; deadline_seconds: 5 to 86400, default 120; '
'charge_refusals: whether a refusal by the provider''s policy is charged, default false; options: {NAME: {values: '
'[...] or {VALUE: credits that it adds to a unit}, or min and max of a whole number; default: what is sent when the '
'user does not say}}}. With the unit "second" a unit is a second of the option duration.';
