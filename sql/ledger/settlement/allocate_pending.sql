create function credits.allocate_pending(
  account_id uuid,
  through_id bigint default null,
  usable_from timestamptz default null,
  preferred_lot bigint default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  first_id bigint;
  settled bigint;
  last_entry_at timestamptz;
  first_unpaid bigint;
begin
  select least(a.debt_from, a.settled_through + 1), a.settled_through
  into first_id, settled
  from public.credit_accounts as a
  where a.id = allocate_pending.account_id;

  -- Nothing fell due between these rows, or the one after it would have settled first: so a lot that is alive at the
  -- last of them was alive at each. Of all that are pending, also when only some are paid now.
  select t.created_at into last_entry_at
  from public.credit_transactions as t
  where t.account_id = allocate_pending.account_id and t.id >= first_id
  order by t.id desc
  limit 1;
  if not found then
    return;
  end if;

  with pending as (
    select
      t.id,
      d.due,
      sum(d.due) over (order by t.id) as through
    from public.credit_transactions as t
    cross join lateral (
      select -t.amount - case
        -- Only an old debt can be partly paid.
        when t.id > settled then 0
        else (
          select coalesce(sum(x.amount), 0) from credits.credit_allocations as x
          where x.account_id = t.account_id and x.transaction_id = t.id
        )
      end as due
    ) as d
    where
      t.account_id = allocate_pending.account_id
      and t.id between first_id and coalesce(through_id, 9223372036854775807)
      and t.amount < 0
      and d.due > 0
  ),

  lots as (
    select
      l.id,
      l.remaining,
      sum(l.remaining) over (
        order by
          coalesce(l.id = preferred_lot, false) desc,
          -- Credits that only a hold keeps go before those that would stay.
          -- They go as the holds rest on them: what expired first first, or a hold made later would lose its own.
          case when l.expires_at <= last_entry_at then l.expires_at end nulls last,
          l.burn_position
      ) as through
    from credits.lots_in_burn_order as l
    where
      l.account_id = allocate_pending.account_id
      and (l.expires_at is null or l.expires_at > coalesce(usable_from, last_entry_at))
  ),

  -- Debits and lots laid end to end: a lot pays for a debit where the two overlap.
  paid as (
    insert into credits.credit_allocations (account_id, transaction_id, number, grant_id, amount)
    select
      allocate_pending.account_id,
      p.id,
      row_number() over (partition by p.id order by l.through) + case
        when p.id > settled then 0
        else (
          select coalesce(max(x.number), 0) from credits.credit_allocations as x
          where x.account_id = allocate_pending.account_id and x.transaction_id = p.id
        )
      end,
      l.id,
      least(p.through, l.through) - greatest(p.through - p.due, l.through - l.remaining)
    from pending as p
    inner join lots as l on p.through - p.due < l.through and l.through - l.remaining < p.through
    -- Lots that none of these reach need not be compared with each.
    where l.through - l.remaining < (select max(m.through) from pending as m)
    returning credit_allocations.grant_id, credit_allocations.amount
  ),

  burned as (
    update credits.credit_grants as g set remaining = g.remaining - b.amount
    from (select p.grant_id, sum(p.amount) as amount from paid as p group by p.grant_id) as b
    where g.account_id = allocate_pending.account_id and g.id = b.grant_id
  )

  select min(p.id) into first_unpaid
  from pending as p
  where p.through > (select coalesce(sum(l.remaining), 0) from lots as l);

  update public.credit_accounts as a set debt_from = first_unpaid
  where a.id = allocate_pending.account_id and a.debt_from is distinct from first_unpaid;
end
$$;

comment on function credits.allocate_pending(uuid, bigint, timestamptz, bigint) is
'First part of a settlement: pays the debits that no lot has paid yet from the lots, oldest debit first, in burn '
'order. through_id: the last row to pay, null for all. usable_from lets lots be used that had expired by then no '
'more; preferred_lot goes first. What the lots cannot pay (a clawback''s debt) waits for the next grant. The caller '
'holds the account''s lock.';
