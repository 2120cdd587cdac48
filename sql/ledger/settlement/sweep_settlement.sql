create function credits.sweep_settlement(batch integer, settle_after interval) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  waiting uuid[];
  overdue uuid;
  candidate record;
  together uuid[] := array[]::uuid[];
  together_pending bigint := 0::bigint;
  settled integer := 0;
  unfinished boolean := false;
  -- Ledger rows that one run settles for accounts with more than one batch: bounded, however much is pending.
  budget integer := 60 * credits.settlement_batch();
begin
  -- No index serves this: what it would hold changes with the spends, and each would pay for it.
  select
    array_agg(due.id order by due.since),
    (
      array_agg(due.id order by due.since) filter (
        where due.since < moment - settle_after - interval '1 minute' or due.pending >= 10 * credits.settlement_batch()
      )
    )[1]
  into waiting, overdue
  from (
    select
      a.id,
      least(a.unsettled_since, a.next_expiry) as since,
      a.last_entry - a.settled_through as pending
    from public.credit_accounts as a
    where
      (
        a.next_expiry <= moment
        or a.unsettled_since <= moment - settle_after
        or a.last_entry - a.settled_through >= credits.settlement_batch()
      )
      and not exists (
        select from credits.maintenance_failures as f
        where f.account_id = a.id and f.task = 'settlement' and f.retry_at > moment
      )
    order by since
    limit batch
  ) as due;

  -- An account that is spent from without a pause is never free when SKIP LOCKED looks. Wait for one such account,
  -- while this transaction holds no other lock that it could be waited for.
  if overdue is not null then
    begin
      perform from public.credit_accounts as a where a.id = overdue for no key update;
    exception
      when others then
        perform credits.note_failure('settlement', sqlstate, sqlerrm, overdue);
    end;
  end if;

  for candidate in
    select
      a.id,
      a.last_entry - a.settled_through as pending,
      a.next_expiry <= moment as is_due
    from unnest(waiting) with ordinality as w (id, place)
    inner join public.credit_accounts as a on w.id = a.id
    where
      a.next_expiry <= moment
      or a.unsettled_since <= moment - settle_after
      or a.last_entry - a.settled_through >= credits.settlement_batch()
    order by w.place
    for no key update of a skip locked
  loop
    if candidate.pending > credits.settlement_batch() then
      if budget <= 0 then
        unfinished := true;
        continue;
      end if;
      budget := budget - least(candidate.pending, 20 * credits.settlement_batch());
      unfinished := unfinished or candidate.pending > 20 * credits.settlement_batch();
      settled := settled + credits.try_settling(array[candidate.id]);
      continue;
    elsif candidate.is_due then
      -- By itself: to expire what is due writes the account's row a second time, for which Postgres locks its user, and
      -- may have to wait for one who is being deleted.
      settled := settled + credits.try_settling(array[candidate.id]);
      continue;
    end if;
    -- As many accounts in one statement as keep its memory bounded.
    if together_pending + candidate.pending > 10 * credits.settlement_batch() then
      settled := settled + credits.try_settling(together);
      together := '{}';
      together_pending := 0;
    end if;
    together := together || candidate.id;
    together_pending := together_pending + candidate.pending;
  end loop;
  if together <> '{}' then
    settled := settled + credits.try_settling(together);
  end if;

  -- Over, by whomever: nothing is pending or due any more that was when it failed.
  delete from credits.maintenance_failures as f
  where f.id in (
    select o.id
    from credits.maintenance_failures as o
    inner join public.credit_accounts as a on o.account_id = a.id
    where o.task = 'settlement' and coalesce(least(a.unsettled_since, a.next_expiry) > o.last_at, true)
    -- Another run has it, or has just written it.
    for update of o skip locked
  );
  return jsonb_build_object(
    'settled', settled, 'more', settled > 0 and (unfinished or cardinality(waiting) = batch)
  );
end
$$;

comment on function credits.sweep_settlement(integer, interval) is
'Settles up to batch accounts: those with ledger rows unsettled for settle_after or longer, or with a whole '
'credits.settlement_batch of them, and those where lots or holds have expired; of one with very many, the '
'oldest. Skips what others have locked, and notes what fails. Returns what credits.run_maintenance does.';
