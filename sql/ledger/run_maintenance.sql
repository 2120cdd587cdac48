create function credits.run_maintenance(
  settle_after interval default '0',
  batch integer default 200
) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  waiting uuid[];
  overdue uuid;
  candidate uuid;
  settled integer := 0;
begin
  -- No index serves this: what it would hold changes with the spends, and each would pay for it.
  select
    array_agg(due.id),
    (array_agg(due.id order by due.since) filter (where due.since < moment - settle_after - interval '1 minute'))[1]
  into waiting, overdue
  from (
    select a.id, least(a.unsettled_since, a.next_expiry) as since
    from public.credit_accounts as a
    where a.next_expiry <= moment or a.unsettled_since <= moment - settle_after
    order by since
    limit batch
  ) as due;

  -- An account that is spent from without a pause is never free when SKIP LOCKED looks. Wait for one such account,
  -- while this transaction holds no other lock that it could be waited for.
  if overdue is not null then
    perform credits.lock_account(overdue);
    settled := 1;
  end if;

  foreach candidate in array coalesce(waiting, '{}') loop
    perform from public.credit_accounts as a
    where
      a.id = candidate
      and (a.next_expiry <= moment or a.unsettled_since <= moment - settle_after)
    for no key update skip locked;
    if found then
      perform credits.settle_account(candidate);
      settled := settled + 1;
    end if;
  end loop;

  perform credits.sweep_generations(batch);
  perform credits.sweep_allotments(batch);
  perform credits.forget_stripe_payloads(batch);
  return jsonb_build_object('settled', settled, 'more', cardinality(waiting) = batch and settled > 0);
end
$$;

comment on function credits.run_maintenance(interval, integer) is
'Settles accounts in one bounded batch: those with ledger rows unsettled for settle_after or longer, and those where '
'lots or holds have expired. Then forgets old payloads of Stripe''s. Skips what others have locked; run as many at '
'once as you like. Returns {settled: accounts, more: whether to call again now}.';
