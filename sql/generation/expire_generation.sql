create function credits.expire_generation(
  job public.generation_jobs,
  hold public.credit_holds
) returns public.generation_jobs
language sql
set search_path = ''
as $$
  select e.*
  from credits.close_generation(
    job, hold,
    case when job.dispatched_at is null then 'failed' else 'expired' end::public.generation_status,
    0, 'unknown', null,
    case
      when job.dispatched_at is null
        then jsonb_build_object('status', 504, 'code', 'not_dispatched', 'message', 'The job was not started in time.')
      else
        jsonb_build_object('status', 504, 'code', 'deadline', 'message', 'The provider did not deliver in time.')
    end,
    null, null
  ) as e;
$$;

comment on function credits.expire_generation(public.generation_jobs, public.credit_holds) is
'Ends a job whose time is over: the user gets the credits back; the provider''s cost is logged as ours '
'(usage_logs.status unknown). The caller holds the locks of both.';
