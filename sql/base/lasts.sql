create function credits.lasts(span interval, shortest interval, longest interval) returns boolean
language sql
immutable
set search_path = ''
as $$
  select bool_and(s.start + span between s.start + shortest and s.start + longest)
  from generate_series(timestamp '2096-01-01', timestamp '2099-12-01', interval '1 month') as month
  -- How long months last depends on where they begin: the first and the last day are the extremes.
  cross join lateral (values (month), (month + interval '1 month' - interval '1 day')) as s (start);
$$;

comment on function credits.lasts(interval, interval, interval) is
'Whether a span of time takes from shortest to longest, whenever in four years it begins. For the CHECKs of settings: '
'compared as intervals, 100 years less 35999 days are a day, and a month less 30 days nothing.';

-- Evaluated as who edits the plans.
grant execute on function credits.lasts(interval, interval, interval) to pricing_admin;
