create function credits.run_maintenance(
  settle_after interval default '0',
  batch integer default 200
) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  current_task credits.maintenance_task;
  answer jsonb;
  settlement jsonb;
begin
  foreach current_task in array enum_range(null::credits.maintenance_task) loop
    answer := credits.attempt(
      current_task, format('select credits.run_task(%L, %L, %L, null)', current_task, batch, settle_after)
    );
    if current_task = 'settlement' then
      settlement := answer;
    end if;
  end loop;
  return jsonb_build_object(
    'settled', coalesce((settlement ->> 'done')::integer, 0),
    'more', coalesce((settlement ->> 'more')::boolean and (settlement ->> 'done')::integer > 0, false)
  );
end
$$;

comment on function credits.run_maintenance(interval, integer) is
'Does each task of credits.maintenance_task once, in one bounded batch: settles accounts with ledger rows unsettled '
'for settle_after or longer, and those where lots or holds have expired; ends overdue generations, deletes old unused '
'holds, grants the months of plans with a monthly allotment, empties old payloads of Stripe''s and forgets what of '
'Stripe''s was none of ours. What fails is undone by itself and noted for maintenance_report, the rest goes on. Skips '
'what others have locked; run as many at once as you like. Returns {settled: accounts, more: whether to call again '
'now}. All in one transaction, for who has no choice: credits.maintain commits in between, and goes on while there is '
'more.';
