create function credits.sweep_settlement(
  batch integer,
  settle_after interval,
  waiting uuid[] default null
) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  moment constant timestamptz := credits.now();
  before constant timestamptz := credits.settle_before(settle_after);
  -- Ledger rows for which it takes locks: what bounds the time that it holds them.
  most constant integer := 10 * credits.settlement_batch();
  rows_taken bigint := 0;
  ends_at timestamptz;
  places integer;
  overdue uuid;
  candidate record;
  together uuid[] := array[]::uuid[];
  again uuid[] := array[]::uuid[];
  settled integer := 0;
begin
  if coalesce(waiting, '{}') = '{}' then
    -- For some calls at once: see there.
    waiting := credits.accounts_to_settle(settle_after, 10 * batch);
  end if;
  places := least(batch, cardinality(waiting));

  -- An account that is spent from without a pause is never free when SKIP LOCKED looks. Wait for one such account,
  -- while this transaction holds no other lock that it could be waited for.
  select a.id into overdue
  from unnest(waiting[:places]) with ordinality as w (id, place)
  inner join public.credit_accounts as a on w.id = a.id
  where
    credits.wants_settling(a, moment, before)
    and (
      least(a.unsettled_since, a.next_expiry) < moment - settle_after - interval '1 minute'
      or a.last_entry - a.settled_through >= most
    )
  order by w.place
  limit 1;
  if overdue is not null then
    perform credits.attempt('settlement', 'select to_jsonb(credits.await_account($1[1]))', array[overdue]);
  end if;

  -- Of users who are being deleted each may be waited for, and others wait for all accounts that are locked meanwhile.
  ends_at := clock_timestamp() + interval '1 second';
  for candidate in
    select
      a.id,
      a.last_entry - a.settled_through as pending,
      a.next_expiry <= moment as is_due,
      w.place
    from unnest(waiting[:places]) with ordinality as w (id, place)
    inner join public.credit_accounts as a on w.id = a.id
    where credits.wants_settling(a, moment, before)
    order by w.place
    for no key update of a skip locked
  loop
    if rows_taken >= most or clock_timestamp() >= ends_at then
      places := candidate.place - 1;
      exit;
    end if;
    rows_taken := rows_taken + candidate.pending;
    -- By itself, what takes more than one statement. To expire what is due writes the account's row a second time, for
    -- which Postgres locks its user, and may have to wait for one who is being deleted.
    if candidate.is_due or candidate.pending > credits.settlement_batch() then
      if credits.try_settling(array[candidate.id]) = 1 then
        settled := settled + 1;
        again := again || case when candidate.pending > most then array[candidate.id] end;
      end if;
    else
      together := together || candidate.id;
    end if;
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
  waiting := waiting[places + 1:] || again;
  return jsonb_build_object(
    'done', settled,
    -- Where a whole batch is locked by others, to look once more at once would find the same.
    'more', waiting <> '{}' or places = batch and settled > 0,
    'waiting', to_jsonb(waiting)
  );
end
$$;

comment on function credits.sweep_settlement(integer, interval, uuid[]) is
'Settles up to batch accounts that want it (credits.wants_settling), those first that have waited longest; of one with '
'very many ledger rows the oldest, and with many rows, or after a second, fewer accounts. waiting: whom to begin with, '
'as the call before returned them; without any it looks for them. Skips what others have locked, and notes what fails. '
'Returns what credits.run_task does.';
