create function credits.settle_before(settle_after interval) returns timestamptz
language plpgsql
stable
set search_path = ''
as $$
declare
  moment constant timestamptz := credits.now();
begin
  -- Of a day that is over one wants to read all.
  return greatest(moment - settle_after, date_trunc('day', moment, 'UTC') - interval '1 microsecond');
end
$$;

comment on function credits.settle_before(interval) is
'Maintenance settles what was written until then: what has waited for settle_after, and what is of an earlier day '
'(UTC).';
