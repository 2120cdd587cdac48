create function credits.run_maintenance(
  settle_after interval default '0',
  batch integer default 200
) returns jsonb
language plpgsql
set search_path = ''
-- Nothing here waits longer than that for a session that was left open; what could not be done is noted.
set lock_timeout = '3s'
as $$
declare
  current_task credits.maintenance_task;
  answer jsonb := jsonb_build_object('settled', 0, 'more', false);
begin
  foreach current_task in array enum_range(null::credits.maintenance_task) loop
    begin
      if current_task = 'settlement' then
        answer := credits.sweep_settlement(batch, settle_after);
      else
        execute format('select credits.%I($1)', 'sweep_' || current_task) using batch;
      end if;
      delete from credits.maintenance_failures as f
      where f.task = current_task and f.account_id is null and f.job_id is null;
    exception
      when others then
        perform credits.note_failure(current_task, sqlstate, sqlerrm);
    end;
  end loop;
  return answer;
end
$$;

comment on function credits.run_maintenance(interval, integer) is
'Does each task of credits.maintenance_task once, in one bounded batch: settles accounts with ledger rows unsettled '
'for settle_after or longer, and those where lots or holds have expired; ends overdue generations, deletes old unused '
'holds, grants the months of plans with a monthly allotment, empties old payloads of Stripe''s and forgets what of '
'Stripe''s was none of ours. What fails is undone by itself and noted for maintenance_report, the rest goes on. Skips '
'what others have locked; run as many at once as you like. Returns {settled: accounts, more: whether to call again '
'now}.';
