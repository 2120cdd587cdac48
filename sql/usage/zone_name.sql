create function credits.zone_name(zone text) returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  -- Postgres also takes abbreviations, offsets and rules such as Foo/Bar+3, which no browser knows, and files such as
  -- posix/Asia/Tokyo. To look through all files costs milliseconds: only for what it takes.
  if zone !~ '^([A-Za-z]+(/[A-Za-z0-9_+-]+){1,2}|UTC)$' or zone ~* '^(posix|right)/' or char_length(zone) > 64 then
    return null;
  end if;
  perform timestamptz '2000-01-01 00:00:00+00' at time zone zone;
  return (select min(n.name) from pg_catalog.pg_timezone_names as n where lower(n.name) = lower(zone));
exception
  when invalid_parameter_value then
    return null;
end
$$;

comment on function credits.zone_name(text) is
'The time zone''s name as the database of time zones writes it, such as Asia/Tokyo or UTC; null for an unknown one.';
