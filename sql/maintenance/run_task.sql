create function credits.run_task(
  task credits.maintenance_task,
  batch integer,
  settle_after interval,
  waiting uuid[]
) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  done integer;
  answer jsonb;
begin
  if exists (
    select from credits.maintenance_failures as f
    where f.task = run_task.task and f.account_id is null and f.job_id is null and f.retry_at > credits.now()
  ) then
    return null;
  end if;
  if task = 'settlement' then
    answer := credits.sweep_settlement(
      batch, coalesce(settle_after, (select s.settle_after from credits.billing_settings as s)), waiting
    );
  else
    execute format('select credits.%I($1)', 'sweep_' || task) into done using batch;
    answer := jsonb_build_object('done', done, 'more', done >= batch);
  end if;
  delete from credits.maintenance_failures as f
  where f.id in (
    select o.id from credits.maintenance_failures as o
    where o.task = run_task.task and o.account_id is null and o.job_id is null
    -- An operator has it: the next time.
    for update skip locked
  );
  return answer;
end
$$;

comment on function credits.run_task(credits.maintenance_task, integer, interval, uuid[]) is
'Does one batch of a task of the maintenance, unless it failed as a whole and its time has not come again. Returns '
'{done, more: whether to call again now}, of settlement also {waiting: the accounts to begin with then}. settle_after '
'(null: billing_settings.settle_after) and waiting are settlement''s. The caller is credits.attempt.';
