create function public.pending_generations(batch integer default 20) returns setof jsonb
language sql
stable
security definer
set search_path = ''
as $$
  select credits.job_json(j)
  from public.generation_jobs as j
  where j.finished_at is null and j.provider_job_id is not null and j.deadline_at > credits.now()
  order by j.deadline_at
  limit least(greatest(batch, 1), 100);
$$;

comment on function public.pending_generations(integer) is
'For the function generate after a restart: up to batch jobs that are with a provider who can be asked about them, the '
'most urgent first.';

grant execute on function public.pending_generations(integer) to service_role;
