create function public.lease_generations(
  process uuid,
  lease_seconds integer default 45,
  batch integer default 100
) returns setof jsonb
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform credits.check_lease(lease_seconds);
  if process is null then
    perform credits.fail('PT400', 'process is missing.', '{}', 'Send a UUID that the process keeps while it runs.');
  end if;
  return query
  with free as (
    select
      j.account_id,
      j.id
    from public.generation_jobs as j
    where
      j.finished_at is null
      and j.provider_job_id is not null
      and j.deadline_at > credits.now()
      and (j.leased_until is null or j.leased_until <= credits.now())
    order by j.deadline_at
    limit least(greatest(batch, 1), 100)
    for no key update skip locked
  ),

  taken as (
    update public.generation_jobs as j
    set leased_by = process, leased_until = credits.now() + make_interval(secs => lease_seconds)
    from free
    where j.account_id = free.account_id and j.id = free.id
    returning j
  )

  select credits.job_json(t.j) from taken as t;
end
$$;

comment on function public.lease_generations(uuid, integer, integer) is
'For the function generate: hands the process up to batch jobs (at most 100) that are with a provider who can be asked '
'about them, and that no other process sees to, the most urgent first. They are its own for lease_seconds (1 to 300); '
'note_generation renews that. Call it again while it returns a full batch. Errors: PT400.';

grant execute on function public.lease_generations(uuid, integer, integer) to service_role;
