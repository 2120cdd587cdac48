create function public.maintenance_report() returns table (
  task text,
  account_id uuid,
  user_id uuid,
  job_id uuid,
  sqlstate text,
  message text,
  failures integer,
  first_at timestamptz,
  last_at timestamptz,
  retry_at timestamptz
)
language sql
stable
security definer
set search_path = ''
as $$
  select f.task::text, f.account_id, a.user_id, f.job_id, f.sqlstate, f.message, f.failures, f.first_at, f.last_at, f.retry_at
  from credits.maintenance_failures as f
  left join public.credit_accounts as a on f.account_id = a.id
  order by f.first_at;
$$;

comment on function public.maintenance_report() is
'Operator: what maintenance could not do and still cannot, oldest first; no row when all is well. task: settlement (of '
'an account), generations (the end of a job), allotments (the month of a plan), holds, stripe_payloads, '
'unclaimed_payments (a sweep as a whole). retry_at: when it is tried next.';

grant execute on function public.maintenance_report() to service_role;
