create function public.stripe_problems() returns table (
  id text,
  type text,
  status text,
  reason text,
  received_at timestamptz,
  attempts integer
)
language sql
stable
security definer
set search_path = ''
as $$
  select e.id, e.type, e.status::text, e.reason, e.received_at, e.attempts
  from credits.stripe_events as e
  where e.status in ('quarantined', 'failed')
  order by e.received_at, e.id;
$$;

comment on function public.stripe_problems() is
'Operator: Stripe''s events that are quarantined or failed, the oldest first, with the reason and how often they were '
'tried. Mend the cause, and retry_stripe_events applies them; or let them go with dismiss_stripe_event.';

grant execute on function public.stripe_problems() to service_role;
