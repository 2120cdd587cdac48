create view credits.generation_failures
with (security_invoker = true)
as
select
  j.operation,
  j.provider,
  j.model,
  j.error ->> 'code' as failure,
  date_trunc('day', j.finished_at, 'UTC') as day,
  count(*) as jobs,
  max(j.finished_at) as last_at
from public.generation_jobs as j
where j.error is not null and j.status <> 'canceled'
group by j.operation, j.provider, j.model, failure, day;

revoke all on table credits.generation_failures from anon, authenticated, service_role;

comment on view credits.generation_failures is
'Jobs that ended without an output, by why (the code of the answer), operation, provider, model and UTC day. For an '
'operator to act on: model_gone, provider_quota, provider_key, not_set_up. For the provider: provider_busy, '
'provider_down, no_output, deadline. For the user: refused, provider_rejected.';
