create function public.retry_stripe_events(batch integer default 100) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  started timestamptz := credits.now();
  event record;
  results text [] := '{}';
begin
  if batch is null or batch not between 1 and 1000 then
    perform credits.fail('PT400', 'batch must be from 1 to 1000.', jsonb_build_object('batch', batch), 'Leave it out for 100.');
  end if;
  for event in
    select e.payload from credits.stripe_events as e
    where e.status in ('quarantined', 'failed') and e.payload is not null
    order by e.processed_at
    limit batch
    for update skip locked
  loop
    results := results || (credits.ingest_stripe_event(event.payload) ->> 'status');
  end loop;
  return (
    select jsonb_build_object(
      'retried', count(*),
      'applied', count(*) filter (where r.status in ('applied', 'ignored')),
      'failed', count(*) filter (where r.status = 'failed'),
      'quarantined', count(*) filter (where r.status = 'quarantined'),
      'more', exists(
        select from credits.stripe_events as e
        where e.status in ('quarantined', 'failed') and e.payload is not null and e.processed_at < started
      )
    )
    from unnest(results) as r (status)
  );
end
$$;

comment on function public.retry_stripe_events(integer) is
'Operator: tries up to batch events that are quarantined or failed again, for instance after their cause was mended. '
'Returns {retried, applied, failed, quarantined, more}; while more is true, call again.';

grant execute on function public.retry_stripe_events(integer) to service_role;
