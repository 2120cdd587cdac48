create function credits.lock_generation(account_id uuid, job_id uuid) returns public.generation_jobs
language plpgsql
set search_path = ''
as $$
declare
  job public.generation_jobs;
begin
  select * into job from public.generation_jobs as j
  where j.account_id = lock_generation.account_id and j.id = job_id
  for no key update;
  if not found then
    perform credits.fail('PT404', 'There is no such job.', jsonb_build_object('job', job_id), 'Check the id.');
  end if;
  return job;
end
$$;

comment on function credits.lock_generation(uuid, uuid) is
'The account''s job, locked until the transaction ends; before its account, always. PT404: the account has no such '
'job, another''s included.';
