create function credits.sweep_generations(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  job public.generation_jobs;
  ends_at constant timestamptz := clock_timestamp() + interval '1 second';
  swept integer := 0;
begin
  for job in
    select j.* from public.generation_jobs as j
    where
      j.finished_at is null
      and j.deadline_at <= credits.now()
      and not exists (
        select from credits.maintenance_failures as f where f.account_id = j.account_id and f.job_id = j.id and f.retry_at > credits.now()
      )
    order by j.deadline_at
    limit batch
    for no key update skip locked
  loop
    -- Each may have to wait for its user's row; nobody shall wait longer for the accounts that are locked by now.
    exit when clock_timestamp() >= ends_at;
    -- Waits for nobody: two sweeps that hold several accounts each would wait for one another.
    perform from public.credit_accounts as a where a.id = job.account_id for no key update skip locked;
    if found then
      swept := swept + case when credits.attempt(
        'generations',
        format(
          'select to_jsonb(e.id) from public.generation_jobs as j, '
          'credits.expire_generation(j, credits.lock_hold(j.account_id, j.hold_id)) as e '
          'where j.account_id = $1[1] and j.id = %L', job.id
        ),
        array[job.account_id],
        job.id
      ) is not null then 1 else 0 end;
    end if;
  end loop;

  -- Over, by whomever: the job has ended.
  delete from credits.maintenance_failures as f
  where f.id in (
    select o.id
    from credits.maintenance_failures as o
    left join public.generation_jobs as j on o.account_id = j.account_id and o.job_id = j.id
    where o.task = 'generations' and o.job_id is not null and (j.id is null or j.finished_at is not null)
    -- Another run has it, or has just written it.
    for update of o skip locked
  );
  return swept;
end
$$;

comment on function credits.sweep_generations(integer) is
'Ends up to batch jobs whose deadline has passed, whatever became of the function that ran them; returns how many. '
'Leaves to the next time what others have locked, and all after a second, and notes what fails.';
