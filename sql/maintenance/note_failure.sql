create function credits.note_failure(
  task credits.maintenance_task,
  state text,
  message text,
  account_id uuid default null,
  job_id uuid default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  -- Of these classes Postgres's sentences name tables and constraints; the others' may quote values.
  told text := case
    when left(state, 2) in ('23', '25', '40', '42', '53', '54', '55', '57', '58', 'PT', 'XX') then left(message, 500)
  end;
begin
  raise warning 'credits: maintenance could not do % of account %, job %: % %', task, account_id, job_id, state, message;
  begin
    insert into credits.maintenance_failures as f (
      task, account_id, job_id, sqlstate, message, first_at, last_at, retry_at
    )
    values (
      note_failure.task, note_failure.account_id, note_failure.job_id, state, told, moment, moment,
      moment + interval '10 seconds'
    )
    on conflict on constraint maintenance_failures_task_account_id_job_id_key do update set
      sqlstate = excluded.sqlstate,
      message = excluded.message,
      failures = f.failures + 1,
      last_at = excluded.last_at,
      retry_at = moment + least(interval '10 seconds' * 2 ^ least(f.failures, 10), interval '1 hour');
  exception
    -- An operator may have its row locked.
    when query_canceled or others then
      raise warning 'credits: that could not be noted: % %', sqlstate, sqlerrm;
  end;
end
$$;

comment on function credits.note_failure(credits.maintenance_task, text, text, uuid, uuid) is
'Writes down that a part of the maintenance failed, so that an operator sees it: in the server''s log, and in '
'credits.maintenance_failures unless its row is locked. The caller is credits.attempt.';
