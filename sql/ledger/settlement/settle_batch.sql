create function credits.settle_batch(
  accounts uuid[],
  usable_from timestamptz default null,
  preferred_lot bigint default null
) returns void
language plpgsql
set search_path = ''
-- One plan for whatever accounts: to make one takes longer than to settle some.
set plan_cache_mode = 'force_generic_plan'
as $$
begin
  with account as materialized (
    select
      a.id,
      a.settled_through,
      a.debt_from,
      a.last_entry,
      a.unsettled_since,
      gen_random_uuid() as salt,
      coalesce((select z.zone from credits.account_zones as z where z.account_id = a.id), 'UTC') as zone,
      -- Nothing fell due between the pending rows, or the one after it would have settled first: so a lot that is alive
      -- at the account's last row was alive at each of them. A subquery: joined, it could be read anew for each debit.
      (
        select t.created_at from public.credit_transactions as t
        where t.account_id = a.id and t.id = a.last_entry
      ) as last_entry_at,
      least(a.last_entry, a.settled_through + credits.settlement_batch()) as through_id,
      paid.number as paid_number,
      -- The newest payment, where the next one may go on with it.
      case when a.debt_from is null and not paid.is_late then paid.grant_id end as paying_lot
    from public.credit_accounts as a
    left join lateral (
      select p.number, p.grant_id, p.is_late from credits.lot_payments as p
      where p.account_id = a.id
      order by p.number desc
      limit 1
    ) as paid on true
    where a.id = any(accounts)
  ),

  entry as materialized (
    select
      a.id as account_id,
      t.id,
      t.kind,
      t.amount,
      t.quantity,
      t.price_version,
      t.related_id,
      a.zone,
      (t.created_at at time zone a.zone)::date as day,
      -- A digest per row, not the rows' text: a batch of large ones would not fit into one value.
      credits.entry_digest(
        t, credits.seal_format(), credits.text_digest(t, credits.text_salt(a.salt, t.id))
      ) as digest,
      case when credits.has_text(t) then a.salt end as salt
    from account as a
    inner join public.credit_transactions as t
      on a.id = t.account_id and t.id > a.settled_through and t.id <= a.through_id
  ),

  -- An expiry was paid where it was written, by the lot that expired.
  debit as materialized (
    select
      d.account_id,
      d.id,
      d.is_late,
      d.due,
      sum(d.due) over (partition by d.account_id order by d.id)::bigint as through
    from (
      select
        e.account_id,
        e.id,
        false as is_late,
        -e.amount as due
      from entry as e
      where e.amount < 0 and e.kind <> 'expiry'
      union all
      -- Old debts, of which the first may be partly paid.
      select
        a.id,
        t.id,
        true,
        -t.amount - coalesce((
          select sum(x.amount) from credits.credit_allocations as x
          where x.account_id = a.id and x.transaction_id = t.id
        ), 0)::bigint
      from account as a
      inner join public.credit_transactions as t
        on a.id = t.account_id and t.id >= a.debt_from and t.id <= a.settled_through
      where t.amount < 0 and t.kind <> 'expiry'
    ) as d
    where d.due > 0
  ),

  owing as materialized (
    select d.account_id, d.due, a.last_entry_at
    from (select x.account_id, max(x.through) as due from debit as x group by x.account_id) as d
    inner join account as a on d.account_id = a.id
  ),

  lot as materialized (
    select
      o.account_id,
      l.id,
      l.remaining,
      o.due,
      sum(l.remaining) over (
        partition by l.account_id
        order by
          coalesce(l.id = preferred_lot, false) desc,
          -- Credits that only a hold keeps go before those that would stay.
          -- They go as the holds rest on them: what expired first first, or a hold made later would lose its own.
          case when l.expires_at <= o.last_entry_at then l.expires_at end nulls last,
          l.burn_position
      )::bigint as through
    from owing as o
    inner join credits.lots_in_burn_order as l on o.account_id = l.account_id
    where
      l.account_id = any(accounts)
      and (l.expires_at is null or l.expires_at > coalesce(usable_from, o.last_entry_at))
  ),

  -- Debits and lots laid end to end: a lot pays for a debit where the two overlap. One row per lot and run of debits.
  run as materialized (
    select
      d.account_id,
      l.id as grant_id,
      d.is_late,
      min(d.id) as first_id,
      max(d.id) as last_id,
      min(least(d.through, l.through)) - min(greatest(d.through - d.due, l.through - l.remaining)) as first_amount,
      max(least(d.through, l.through)) - max(greatest(d.through - d.due, l.through - l.remaining)) as last_amount,
      max(least(d.through, l.through)) - min(greatest(d.through - d.due, l.through - l.remaining)) as amount,
      row_number() over (partition by d.account_id order by min(least(d.through, l.through))) as place
    from debit as d
    inner join lot as l
      on d.account_id = l.account_id and d.through - d.due < l.through and l.through - l.remaining < d.through
    -- Lots that none of these reach need not be compared with each.
    where l.through - l.remaining < l.due
    group by d.account_id, l.id, d.is_late, case when d.is_late then d.id end
  ),

  numbered as materialized (
    select
      r.*,
      coalesce(a.paid_number, 0) as paid_number,
      r.place = 1 and coalesce(a.paying_lot = r.grant_id, false) as goes_on,
      bool_or(r.place = 1 and coalesce(a.paying_lot = r.grant_id, false)) over (partition by r.account_id) as one_goes_on
    from run as r
    inner join account as a on r.account_id = a.id
  ),

  extended as (
    update credits.lot_payments as p
    set last_id = r.last_id, last_amount = r.last_amount
    from numbered as r
    where r.goes_on and p.account_id = r.account_id and p.number = r.paid_number
  ),

  paid as (
    insert into credits.lot_payments (
      account_id, grant_id, first_id, last_id, first_amount, last_amount, number, is_late
    )
    select
      r.account_id,
      r.grant_id,
      r.first_id,
      r.last_id,
      r.first_amount,
      r.last_amount,
      r.paid_number + r.place - case when r.one_goes_on then 1 else 0 end,
      r.is_late
    from numbered as r
    where not r.goes_on
  ),

  burned as (
    update credits.credit_grants as g set remaining = g.remaining - b.amount
    from (
      select r.account_id, r.grant_id, sum(r.amount)::bigint as amount from run as r group by r.account_id, r.grant_id
    ) as b
    where g.account_id = b.account_id and g.id = b.grant_id
  ),

  owed as (
    select d.account_id, min(d.id) as debt_from
    from debit as d
    left join (
      select l.account_id, sum(l.remaining) as remaining from lot as l group by l.account_id
    ) as l on d.account_id = l.account_id
    where d.through > coalesce(l.remaining, 0)
    group by d.account_id
  ),

  sealed as (
    insert into credits.ledger_seals (account_id, number, through_id, format, salt, entries, hash, sealed_at)
    select
      b.account_id,
      coalesce(s.number, 0) + 1,
      b.last_id,
      credits.seal_format(),
      b.salt,
      b.entries,
      credits.seal_hash(s.hash, b.digests),
      credits.now()
    from (
      select
        e.account_id,
        count(*) as entries,
        max(e.id) as last_id,
        (array_agg(e.salt) filter (where e.salt is not null))[1] as salt,
        string_agg(e.digest, '' order by e.id) as digests
      from entry as e
      group by e.account_id
    ) as b
    left join lateral (
      select p.number, p.hash from credits.ledger_seals as p
      where p.account_id = b.account_id
      order by p.number desc
      limit 1
    ) as s on true
  ),

  used as (
    insert into credits.usage_days as u (
      account_id, day, price_version, transactions, quantity, spent, refunded, refunded_of
    )
    select
      p.account_id,
      p.day,
      p.price_version,
      sum(p.transactions),
      sum(p.quantity),
      sum(p.spent),
      sum(p.refunded),
      sum(p.refunded_of)
    from (
      select
        e.account_id,
        e.day,
        e.price_version,
        1 as transactions,
        e.quantity,
        -e.amount as spent,
        0::bigint as refunded,
        0::bigint as refunded_of
      from entry as e
      where e.price_version is not null
      union all
      -- A refund counts on its own day, and against the day of its spend: credits.usage_of says the same.
      select e.account_id, d.day, s.price_version, 0, 0, 0::bigint, d.refunded, d.refunded_of
      from entry as e
      inner join public.credit_transactions as s on e.account_id = s.account_id and e.related_id = s.id
      cross join lateral (
        values (e.day, e.amount, 0::bigint), ((s.created_at at time zone e.zone)::date, 0::bigint, e.amount)
      ) as d (day, refunded, refunded_of)
      where e.kind = 'refund' and s.price_version is not null
    ) as p
    group by p.account_id, p.day, p.price_version
    on conflict on constraint usage_days_pkey do update set
      transactions = u.transactions + excluded.transactions,
      quantity = u.quantity + excluded.quantity,
      spent = u.spent + excluded.spent,
      refunded = u.refunded + excluded.refunded,
      refunded_of = u.refunded_of + excluded.refunded_of
  )

  update public.credit_accounts as a
  set
    settled_through = s.through_id,
    unsettled_since = case when s.last_entry > s.through_id then coalesce(
      (select t.created_at from public.credit_transactions as t where t.account_id = a.id and t.id = s.through_id + 1),
      a.unsettled_since
    ) end,
    debt_from = o.debt_from
  from account as s
  left join owed as o on s.id = o.account_id
  where a.id = s.id;
end
$$;

comment on function credits.settle_batch(uuid[], timestamptz, bigint) is
'Settles the oldest credits.settlement_batch rows of each of the accounts that are not settled: pays their debits, and '
'debts before them, from the lots, oldest first, in burn order; adds them to the daily usage; chains a seal over them. '
'usable_from: lots that expire after it may pay; preferred_lot pays first: both for one account. What the '
'lots cannot pay (a clawback''s debt) waits for the next grant. One statement, for one account or hundreds: its price '
'is in the statement. The caller holds the accounts'' locks.';
