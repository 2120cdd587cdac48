create function public.my_generation(job_id uuid) returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  job public.generation_jobs;
begin
  select j.* into job
  from public.generation_jobs as j
  where j.account_id = credits.account_of(me) and j.id = job_id;
  if not found then
    perform credits.fail('PT404', 'There is no such job.', jsonb_build_object('job', job_id), 'Check the id.');
  end if;
  return credits.job_json(job);
end
$$;

comment on function public.my_generation(uuid) is
'The signed-in user''s job, with credits_held, credits_charged and available. Errors: PT403 not signed in, PT404 no '
'such job, another user''s included.';

grant execute on function public.my_generation(uuid) to authenticated;
