create function public.decline_generation(account_id uuid, job_id uuid, error jsonb) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  job public.generation_jobs := credits.lock_generation(account_id, job_id);
begin
  if job.status = 'held' then
    job := credits.close_generation(
      job, credits.lock_hold(job.account_id, job.hold_id), 'failed', 0, 'failed', null, error, null, null
    );
  end if;
  return credits.job_json(job);
end
$$;

comment on function public.decline_generation(uuid, uuid, jsonb) is
'For the function generate when it finds before it asks a provider that a job of the account cannot be done: ends it '
'and gives the credits back. A job that somebody else has dispatched meanwhile, or that is over, stays as it is. '
'error: {status, code, message} for the client. Returns the job. Errors: PT404 the account has no such job.';

grant execute on function public.decline_generation(uuid, uuid, jsonb) to service_role;
