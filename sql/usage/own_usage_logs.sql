create view public.usage_logs
with (security_invoker = true)
as
select
  id,
  account_id,
  operation,
  provider,
  model,
  units,
  latency_ms,
  status,
  hold_id,
  transaction_id,
  created_at
from credits.usage_logs;

revoke all on table public.usage_logs from anon, authenticated, service_role;
grant select on table public.usage_logs to authenticated, service_role;

comment on view public.usage_logs is
'The signed-in user''s provider calls, one row each: credits.usage_logs without what they cost us. For service_role, '
'everybody''s.';
