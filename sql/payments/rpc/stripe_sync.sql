create function public.stripe_sync(
  events_through timestamptz default null,
  swept_at timestamptz default null
) returns jsonb
language sql
security definer
set search_path = ''
as $$
  update credits.stripe_progress as p
  set
    events_through = greatest(p.events_through, stripe_sync.events_through),
    swept_at = greatest(p.swept_at, stripe_sync.swept_at)
  returning jsonb_build_object('events_through', p.events_through, 'swept_at', p.swept_at);
$$;

comment on function public.stripe_sync(timestamptz, timestamptz) is
'For reconciliation: how far it has come, moved on to the arguments where they are later. Returns {events_through, '
'swept_at}.';

grant execute on function public.stripe_sync(timestamptz, timestamptz) to service_role;
