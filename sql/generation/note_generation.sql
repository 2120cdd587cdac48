create function public.note_generation(
  account_id uuid,
  job_id uuid,
  provider_job_id text default null,
  unknown boolean default false,
  extend_seconds integer default null,
  process uuid default null,
  lease_seconds integer default 45
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  job public.generation_jobs := credits.lock_generation(account_id, job_id);
  moment timestamptz := credits.now();
begin
  if job.finished_at is not null or job.dispatched_at is null then
    return credits.job_json(job);
  elsif extend_seconds not between 1 and 3600 then
    perform credits.fail(
      'PT400', 'extend_seconds must be from 1 to 3600.', jsonb_build_object('extend_seconds', extend_seconds),
      'Send a heartbeat more often instead.'
    );
  elsif job.leased_by <> process and job.leased_until > moment then
    return credits.job_json(job);
  end if;
  perform credits.check_lease(lease_seconds);
  update public.generation_jobs as j
  set
    provider_job_id = coalesce(note_generation.provider_job_id, j.provider_job_id),
    status = case
      when note_generation.unknown then 'unknown'
      when coalesce(note_generation.provider_job_id, j.provider_job_id) is not null then 'running'
      else j.status
    end,
    deadline_at = greatest(
      j.deadline_at,
      case when extend_seconds is not null then least(
        moment + make_interval(secs => extend_seconds), j.created_at + s.hold_ttl_max - credits.sweep_grace()
      ) end
    ),
    leased_by = coalesce(process, j.leased_by),
    leased_until = case
      when process is not null then moment + make_interval(secs => lease_seconds) else j.leased_until
    end
  from credits.billing_settings as s
  where j.account_id = job.account_id and j.id = job.id
  returning j.* into job;
  perform credits.keep_hold(credits.lock_hold(job.account_id, job.hold_id), job.deadline_at);
  return credits.job_json(job);
end
$$;

comment on function public.note_generation(uuid, uuid, text, boolean, integer, uuid, integer) is
'For the function generate while a job is under way: keeps the provider''s id; unknown: the provider may or may not '
'have taken it; extend_seconds: a heartbeat, which moves the deadline to so long from now, at most '
'billing_settings.hold_ttl_max from the start; process: who sees to it, for lease_seconds (1 to 300) from now. A job '
'that is over stays as it is, and so does one that another process has: look at leased_by. Returns the job. Errors: '
'PT400, PT404.';

grant execute on function public.note_generation(uuid, uuid, text, boolean, integer, uuid, integer) to service_role;
