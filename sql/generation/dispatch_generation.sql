create function public.dispatch_generation(account_id uuid, job_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  job public.generation_jobs := credits.lock_generation(account_id, job_id);
  hold public.credit_holds;
begin
  if job.status <> 'held' then
    return null;
  end if;
  hold := credits.lock_hold(job.account_id, job.hold_id);
  if hold.status <> 'held' or job.deadline_at <= credits.now() then
    job := credits.expire_generation(job, hold);
    return credits.job_json(job);
  end if;
  update public.generation_jobs as j
  set
    status = 'dispatched',
    dispatched_at = credits.now(),
    deadline_at = credits.now() + make_interval(
      secs => (credits.generation_terms(p.new -> 'terms') ->> 'deadline_seconds')::double precision
    )
  from credits.pricing_tier_history as p
  where j.account_id = job.account_id and j.id = job.id and p.version = hold.price_version
  returning j.* into job;
  perform credits.keep_hold(hold, job.deadline_at);
  return credits.job_json(job);
end
$$;

comment on function public.dispatch_generation(uuid, uuid) is
'For the function generate, before it asks the provider: returns the job to the one caller who may ask, and null to '
'every other. The job''s deadline counts from here. A job that was not started in time is ended and returned as '
'failed. Errors: PT404 the account has no such job.';

grant execute on function public.dispatch_generation(uuid, uuid) to service_role;
