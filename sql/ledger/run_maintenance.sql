create function credits.run_maintenance(
  settle_after interval default '0',
  batch integer default 200
) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  overdue uuid;
  candidate record;
  seen integer := 0;
  settled integer := 0;
begin
  -- An account that is spent from without a pause is never free when SKIP LOCKED looks. Wait for one such account,
  -- while this transaction holds no other lock that it could be waited for.
  select a.id into overdue
  from public.credit_accounts as a
  where a.unsettled_since < moment - settle_after - interval '1 minute' or a.next_expiry < moment - interval '1 minute'
  order by least(a.unsettled_since, a.next_expiry)
  limit 1;
  if found then
    perform credits.lock_account(overdue);
    settled := 1;
  end if;

  for candidate in
    select a.id
    from public.credit_accounts as a
    where a.next_expiry <= moment or a.unsettled_since <= moment - settle_after
    order by a.id
    limit batch
  loop
    seen := seen + 1;
    perform from public.credit_accounts as a
    where
      a.id = candidate.id
      and (a.next_expiry <= moment or a.unsettled_since <= moment - settle_after)
    for no key update skip locked;
    if found then
      perform credits.settle_account(candidate.id);
      settled := settled + 1;
    end if;
  end loop;

  return jsonb_build_object('settled', settled, 'more', seen = batch and settled > 0);
end
$$;

comment on function credits.run_maintenance(interval, integer) is
'Settles accounts in one bounded batch: those with ledger rows unsettled for settle_after or longer, and those where '
'lots or holds have expired. Skips what others have locked; run as many at once as you like. Returns {settled: '
'accounts, more: whether to call again now}.';
