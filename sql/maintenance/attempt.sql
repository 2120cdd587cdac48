create function credits.attempt(
  task credits.maintenance_task,
  statement text,
  accounts uuid[] default null,
  job_id uuid default null
) returns jsonb
language plpgsql
set search_path = ''
-- Who waits here has others wait: for what is locked already, and for the rest of the run.
set lock_timeout = '200ms'
as $$
declare
  answer jsonb;
begin
  execute statement into answer using accounts;
  return coalesce(answer, '{}');
exception
  -- OTHERS leaves out what a statement_timeout ends.
  when query_canceled or others then
    if cardinality(accounts) > 1 then
      raise log 'credits: maintenance could not do % of % accounts together: % %',
        task, cardinality(accounts), sqlstate, sqlerrm;
    else
      perform credits.note_failure(task, sqlstate, sqlerrm, accounts[1], job_id);
    end if;
    return null;
end
$$;

comment on function credits.attempt(credits.maintenance_task, text, uuid[], uuid) is
'Does a part of the maintenance, an SQL statement that may name accounts as $1, so that the others go on whatever '
'becomes of it. Returns what the statement does; null where it failed, and nothing of it is left but the note of the '
'failure (credits.note_failure): of the account, of the job, or of the sweep as a whole where there is neither. Of '
'several accounts none is noted: the caller tries fewer.';
