create function public.credit_usage(
  "from" date default null,
  "to" date default null,
  grain text default 'day',
  by text default 'operation',
  filter jsonb default '{}',
  compare boolean default false
) returns json
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.account_of(credits.caller());
  zone text := credits.account_zone(me);
  moment timestamptz := credits.now();
  last_day date := coalesce("to", (moment at time zone zone)::date + 1);
  first_day date := coalesce("from", last_day - case when grain = 'hour' then 1 else 30 end);
  chosen jsonb := credits.usage_filter(filter);
  before_day date;
  days date[];
  hours timestamptz[];
  answer json;
begin
  if grain is null or grain not in ('hour', 'day', 'week', 'month') then
    perform credits.fail(
      'PT400', 'grain must be hour, day, week or month.', jsonb_build_object('grain', left(grain, 100)),
      'Leave it out for days.'
    );
  elsif by is null or by not in ('operation', 'provider', 'model') then
    perform credits.fail(
      'PT400', 'by must be operation, provider or model.', jsonb_build_object('by', left(by, 100)),
      'Usage can be told apart by these.'
    );
  elsif first_day < date '2000-01-01' or last_day > date '9999-12-31' then
    perform credits.fail(
      'PT400', 'from and to must be from 2000-01-01 to 9999-12-31.',
      jsonb_build_object('from', first_day, 'to', last_day), 'Send dates such as 2026-11-24.'
    );
  elsif last_day <= first_day then
    perform credits.fail(
      'PT400', 'to must be after from.', jsonb_build_object('from', first_day, 'to', last_day),
      'The range ends before the day to: for one day it is the next.'
    );
  elsif grain = 'hour' and last_day - first_day > 7 then
    perform credits.fail(
      'PT400', 'By the hour a range has at most 7 days.', jsonb_build_object('from', first_day, 'to', last_day),
      'Ask for fewer days, or for grain day.'
    );
  elsif last_day > first_day + interval '2 years' then
    perform credits.fail(
      'PT400', 'A range has at most 2 years.', jsonb_build_object('from', first_day, 'to', last_day),
      'Ask for one part after the other.'
    );
  end if;

  if grain = 'hour' then
    -- Clocks of all zones differ by quarters of an hour; on the days of a change an hour is there twice, or not at all.
    select array_agg(s.start order by s.start) into hours
    from (
      select min(q.at) as start
      from generate_series(
        first_day::timestamp at time zone 'UTC' - interval '1 day',
        last_day::timestamp at time zone 'UTC' + interval '1 day',
        interval '15 minutes'
      ) as q (at)
      where (q.at at time zone zone)::date >= first_day and (q.at at time zone zone)::date < last_day
      group by date_trunc('hour', q.at, zone)
    ) as s;
  end if;
  select array_agg(s.start order by s.start) into days
  from (
    select distinct
      greatest(first_day, date_trunc(case when grain = 'hour' then 'day' else grain end, d.day)::date) as start
    from generate_series(first_day::timestamp, last_day - 1, interval '1 day') as d (day)
  ) as s;
  if compare then
    before_day := case
      when extract(day from first_day) = 1 and extract(day from last_day) = 1 then first_day - age(last_day, first_day)
      else first_day - (last_day - first_day)
    end;
  end if;

  with used as materialized (
    select true as is_now, d.*
    from credits.usage_by_day(me, last_day, days) as d
    where hours is null
    union all
    select true as is_now, h.*
    from credits.usage_by_hour(
      me,
      (
        select max(q.at) + interval '15 minutes'
        from generate_series(
          hours[cardinality(hours)], hours[cardinality(hours)] + interval '2 hours', interval '15 minutes'
        ) as q (at)
        where (q.at at time zone zone)::date < last_day
      ),
      hours
    ) as h
    where hours is not null
    union all
    select false as is_now, b.*
    from credits.usage_by_day(me, first_day, array[before_day]) as b
    where before_day is not null
  ),

  priced as materialized (
    select v.price_version, coalesce(h.new ->> by, '') as name
    from (select distinct u.price_version from used as u) as v
    left join credits.pricing_tier_history as h on v.price_version = h.version
    where
      not exists (
        select from jsonb_each(chosen) as f (key, names) where not coalesce(f.names ? (h.new ->> f.key), false)
      )
  ),

  -- By group, by bucket, and all together.
  cell as materialized (
    select
      u.is_now,
      grouping(p.name) = 1 as is_all,
      grouping(u.bucket) = 1 as is_total,
      p.name,
      u.bucket,
      coalesce(sum(u.transactions), 0)::bigint as transactions,
      coalesce(sum(u.quantity), 0)::bigint as quantity,
      coalesce(sum(u.spent), 0)::bigint as spent,
      coalesce(sum(u.refunded), 0)::bigint as refunded,
      coalesce(sum(u.spent - u.refunded_of), 0)::bigint as net
    from used as u
    inner join priced as p on u.price_version = p.price_version
    group by u.is_now, grouping sets ((p.name, u.bucket), (u.bucket), (p.name), ())
  ),

  total as materialized (
    select
      c.is_now,
      c.is_all,
      c.name,
      c.spent,
      json_build_object(
        'transactions', c.transactions, 'quantity', c.quantity, 'spent', c.spent, 'refunded', c.refunded,
        'net_by_day_of_use', c.net
      ) as figures
    from cell as c
    where c.is_total
  ),

  line as materialized (
    select
      w.is_all,
      w.name,
      json_build_object(
        'transactions', json_agg(coalesce(c.transactions, 0) order by n.bucket),
        'quantity', json_agg(coalesce(c.quantity, 0) order by n.bucket),
        'spent', json_agg(coalesce(c.spent, 0) order by n.bucket),
        'refunded', json_agg(coalesce(c.refunded, 0) order by n.bucket),
        'net_by_day_of_use', json_agg(coalesce(c.net, 0) order by n.bucket)
      ) as series
    from (
      select true as is_all, null as name
      union all
      select false, t.name from total as t where t.is_now and not t.is_all
    ) as w
    cross join generate_series(1, coalesce(cardinality(hours), cardinality(days))) as n (bucket)
    left join cell as c
      on
        c.is_now and not c.is_total and w.is_all = c.is_all and w.name is not distinct from c.name
        and n.bucket = c.bucket
    group by w.is_all, w.name
  )

  select
    json_build_object(
      'from', first_day,
      'to', last_day,
      'grain', grain,
      'by', by,
      'filter', chosen,
      'zone', zone,
      'as_of', moment,
      'starts', coalesce(to_json(hours), to_json(days)),
      'totals', coalesce(
        (select t.figures from total as t where t.is_now and t.is_all),
        json_build_object('transactions', 0, 'quantity', 0, 'spent', 0, 'refunded', 0, 'net_by_day_of_use', 0)
      ),
      'series', (select l.series from line as l where l.is_all),
      'groups', coalesce(
        (
          select
            json_agg(
              json_build_object('group', t.name, 'totals', t.figures, 'series', l.series) order by t.spent desc, t.name
            )
          from total as t
          inner join line as l on not l.is_all and t.name = l.name
          where t.is_now and not t.is_all
        ),
        '[]'
      ),
      'before', case when before_day is not null then json_build_object(
        'from', before_day,
        'to', first_day,
        'totals', coalesce(
          (select t.figures from total as t where not t.is_now and t.is_all),
          json_build_object('transactions', 0, 'quantity', 0, 'spent', 0, 'refunded', 0, 'net_by_day_of_use', 0)
        ),
        'groups', coalesce(
          (
            select json_agg(json_build_object('group', t.name, 'totals', t.figures) order by t.spent desc, t.name)
            from total as t
            where not t.is_now and not t.is_all
          ),
          '[]'
        )
      ) end
    )
  into answer;
  return answer;
end
$$;

comment on function public.credit_usage(date, date, text, text, jsonb, boolean) is
'What the signed-in user spent, as of now, by days of their time zone (set_time_zone) from the day "from" on and '
'before the day "to"; the 30 days through today when left out. grain: hour, day, week (from Monday) or month; by: '
'operation, provider or model; filter: {NAME: value or list} of these; compare: also the same number of days, or of '
'whole months, before. One document: {from, to, grain, by, filter, zone, as_of, starts: of each bucket, totals and '
'series of {transactions, quantity, spent, refunded, net_by_day_of_use} in credits and units, groups: [{group, '
'totals, series}], before: {from, to, totals, groups: [{group, totals}]}}. refunded counts on the day of the refund, '
'net_by_day_of_use takes it from the day of the spend. Errors: PT400 more than 2 years, 7 days of hours, or what it '
'does not know; PT403 not signed in.';

grant execute on function public.credit_usage(date, date, text, text, jsonb, boolean) to authenticated;
