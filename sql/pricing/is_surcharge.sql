create function credits.is_surcharge(value jsonb) returns boolean
language sql
immutable
set search_path = ''
as $$
  select case
    when value is null then true
    when jsonb_typeof(value) <> 'number' then false
    else (value #>> '{}')::numeric between 0 and 1000000 and scale((value #>> '{}')::numeric) <= 4
  end;
$$;

comment on function credits.is_surcharge(jsonb) is
'Whether a JSON value is an amount of credits that can be added to a price (0 to 1,000,000, up to 4 decimals), or is '
'not there.';
