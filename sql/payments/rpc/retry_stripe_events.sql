create function public.retry_stripe_events(before timestamptz default null) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  until timestamptz := coalesce(before, credits.now());
  event record;
  result text;
begin
  select e.id, e.payload into event
  from credits.stripe_events as e
  cross join credits.billing_settings as s
  where
    e.status in ('quarantined', 'failed')
    and e.payload is not null
    and e.processed_at < until
    -- What the settings still forbid need not be tried.
    and (e.payload ->> 'livemode')::boolean = s.stripe_livemode
    and e.payload ->> 'account' is not distinct from s.stripe_account
  order by e.processed_at
  limit 1;
  if not found then
    return jsonb_build_object('retried', 0, 'applied', 0, 'failed', 0, 'quarantined', 0);
  end if;

  begin
    result := credits.ingest_stripe_event(event.payload) ->> 'status';
  exception
    when others then
      -- The next one must not wait for it.
      result := 'failed';
      update credits.stripe_events as e
      set
        status = 'failed',
        reason = 'It broke off: ' || sqlstate,
        attempts = e.attempts + 1,
        processed_at = credits.now()
      where e.id = event.id and e.status in ('quarantined', 'failed'); -- not dismissed meanwhile
  end;
  return jsonb_build_object(
    'retried', 1,
    'applied', (result not in ('failed', 'quarantined'))::integer,
    'failed', (result = 'failed')::integer,
    'quarantined', (result = 'quarantined')::integer
  );
end
$$;

comment on function public.retry_stripe_events(timestamptz) is
'Operator: tries the quarantined or failed event again that has waited longest, of those last tried before that '
'moment (default: now); one a call, so that it holds the locks of one. Returns {retried, applied, failed, '
'quarantined}, each 0 or 1: call it with the moment you began until retried is 0.';

grant execute on function public.retry_stripe_events(timestamptz) to service_role;
