create function credits.entries_before(account_id uuid, moment timestamptz) returns bigint
language plpgsql
stable
set search_path = ''
as $$
declare
  below bigint := 0::bigint;
  above bigint := (select a.last_entry from public.credit_accounts as a where a.id = entries_before.account_id);
  middle bigint;
begin
  -- The account's rows are numbered without a gap, in the order of their time.
  while below < above loop
    middle := (below + above + 1) / 2;
    if (
      select t.created_at < moment from public.credit_transactions as t
      where t.account_id = entries_before.account_id and t.id = middle
    ) then
      below := middle;
    else
      above := middle - 1;
    end if;
  end loop;
  return below;
end
$$;

comment on function credits.entries_before(uuid, timestamptz) is
'How many ledger rows of the account were written before the moment, which is the id of the last of them: by '
'halving, without an index on the time. A clock that was set back makes it as much too few or too many: leave a '
'margin, and look at each row.';
