create function credits.is_zone(zone text) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- Postgres also takes abbreviations, offsets and rules such as Foo/Bar+3, which no browser knows, and files such as
  -- posix/Asia/Tokyo. What has a slash and no digits is a name or nothing.
  if
    char_length(zone) > 64
    or zone !~ '^([A-Za-z]+(/[A-Za-z_-]+){1,2}|UTC|Etc/GMT[+-]([0-9]|1[0-2]))$'
    or zone ~* '^(posix|right)/'
  then
    return false;
  end if;
  perform timestamptz '2000-01-01 00:00:00+00' at time zone zone;
  return zone is not null;
exception
  when invalid_parameter_value then
    return false;
end
$$;

comment on function credits.is_zone(text) is
'Whether it names a time zone that browsers know as well: an IANA name with a slash, or UTC. Not looked up in '
'pg_timezone_names, which reads a thousand files each time.';
