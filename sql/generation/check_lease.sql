create function credits.check_lease(lease_seconds integer) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if lease_seconds is null or lease_seconds not between 1 and 300 then
    perform credits.fail(
      'PT400', 'lease_seconds must be from 1 to 300.', jsonb_build_object('lease_seconds', lease_seconds),
      'Renew a lease before it ends instead.'
    );
  end if;
end
$$;

comment on function credits.check_lease(integer) is 'PT400 unless it is a number of seconds that a lease may have.';
