create procedure credits.maintain(
  settle_after interval default null,
  batch integer default 200,
  at_most interval default '8 seconds',
  inout more boolean default null
)
language plpgsql
-- A procedure with a SET clause may not commit.
as $$
declare
  ends_at constant timestamptz := clock_timestamp() + at_most;
  unfinished credits.maintenance_task[] := enum_range(null::credits.maintenance_task);
  again credits.maintenance_task[];
  current_task credits.maintenance_task;
  waiting uuid[];
  answer jsonb;
begin
  loop
    again := '{}';
    foreach current_task in array unfinished loop
      answer := credits.attempt(
        current_task,
        format('select credits.run_task(%L, %L, %L, %L)', current_task, batch, settle_after, waiting)
      );
      -- What was done stays, whatever becomes of the rest; and nobody waits longer than for a batch.
      commit;
      if answer ? 'waiting' then
        waiting := array(select jsonb_array_elements_text(answer -> 'waiting'));
      end if;
      if (answer ->> 'more')::boolean then
        again := again || current_task;
      end if;
    end loop;
    unfinished := again;
    exit when unfinished = '{}' or clock_timestamp() >= ends_at;
  end loop;
  more := unfinished <> '{}';
end
$$;

comment on procedure credits.maintain(interval, integer, interval, boolean) is -- noqa: LT01
'What pg_cron calls every ten seconds: does each task of credits.maintenance_task as credits.run_maintenance does, in '
'a transaction of its own, and those with more to do again, in turn, until at_most has passed. So no lock is held '
'longer than a batch takes, and what has piled up is worked off. settle_after: null for '
'billing_settings.settle_after. more: whether the time was not enough. Call it outside a transaction.';
