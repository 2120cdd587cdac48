create view credits.generation_margins
with (security_invoker = true)
as
select
  u.operation,
  u.provider,
  u.model,
  date_trunc('day', u.created_at, 'UTC') as day,
  count(*) as calls,
  sum(u.units) as units,
  coalesce(-sum(t.amount), 0) as credits,
  coalesce(sum(u.provider_cost), 0) as provider_cost,
  coalesce(sum(u.provider_cost) filter (where u.transaction_id is null), 0) as lost_cost,
  coalesce(-sum(t.amount), 0) / nullif(sum(u.provider_cost), 0) as credits_per_dollar
from credits.usage_logs as u
left join public.credit_transactions as t on u.account_id = t.account_id and u.transaction_id = t.id
group by u.operation, u.provider, u.model, day;

revoke all on table credits.generation_margins from anon, authenticated, service_role;

comment on view credits.generation_margins is
'Revenue against cost by operation, provider, model and UTC day: credits charged, what the providers took in US '
'dollars, how much of that nobody paid for (lost_cost), and credits earned for each dollar.';
