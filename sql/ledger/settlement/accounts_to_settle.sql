create function credits.accounts_to_settle(settle_after interval, batch integer) returns uuid[]
language plpgsql
stable
set search_path = ''
as $$
declare
  moment constant timestamptz := credits.now();
  before constant timestamptz := credits.settle_before(settle_after);
begin
  return (
    select coalesce(array_agg(due.id order by due.since), '{}')
    from (
      -- No index serves this: what it would hold changes with the spends, and each would pay for it.
      select a.id, least(a.unsettled_since, a.next_expiry) as since
      from public.credit_accounts as a
      where
        credits.wants_settling(a, moment, before)
        and not exists (
          select from credits.maintenance_failures as f
          where f.account_id = a.id and f.task = 'settlement' and f.retry_at > moment
        )
      order by since
      limit batch
    ) as due
  );
end
$$;

comment on function credits.accounts_to_settle(interval, integer) is
'Up to batch accounts that want settling (credits.wants_settling), who has waited longest first; without those that '
'failed and are not to be tried yet. It reads all accounts.';
