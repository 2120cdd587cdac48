create function credits.is_whole(value jsonb, lowest numeric, highest numeric) returns boolean
language sql
immutable
set search_path = ''
as $$
  select case
    when value is null then true
    when jsonb_typeof(value) <> 'number' or (value #>> '{}') !~ '^-?[0-9]{1,16}$' then false
    else (value #>> '{}')::numeric between lowest and highest
  end;
$$;

comment on function credits.is_whole(jsonb, numeric, numeric) is
'Whether a JSON value is a whole number in the range, or is not there.';
