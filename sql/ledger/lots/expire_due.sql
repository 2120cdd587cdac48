create function credits.expire_due(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  present constant timestamptz := credits.now();
  moment timestamptz;
  next timestamptz;
  freed bigint;
  lot record;
begin
  select a.next_expiry into next from public.credit_accounts as a where a.id = expire_due.account_id;
  -- What fell due one after the other is done one after the other, each at its own moment: so an expiry is dated when
  -- its lot expired, or when the hold ended that had kept it, however late this runs.
  loop
    moment := least(next, present);
    with swept as (
      update public.credit_holds as h set status = 'expired', closed_at = moment
      where h.account_id = expire_due.account_id and h.status = 'held' and h.expires_at <= moment
      returning h.amount
    )

    select coalesce(sum(s.amount), 0) into freed from swept as s;

    update public.credit_accounts as a
    set
      held = a.held - freed,
      available = credits.available(a.balance, a.held - freed),
      lapsed = 0,
      updated_at = moment
    where a.id = expire_due.account_id and (freed > 0 or a.lapsed > 0);

    for lot in
      select g.id, d.credits
      from credits.due_expiries(expire_due.account_id, moment) as d
      inner join credits.credit_grants as g on d.grant_id = g.id
      where g.account_id = expire_due.account_id and d.credits > 0
      order by d.expired_at, d.grant_id
    loop
      perform credits.write_off(account_id, lot.id, lot.credits, moment);
    end loop;

    update public.credit_accounts as a
    set
      lapsed = (
        select coalesce(sum(g.remaining), 0)
        from credits.credit_grants as g
        where g.account_id = a.id and g.is_live and g.expires_at <= moment
      ),
      next_expiry = credits.next_expiry(a.id, moment),
      updated_at = moment
    where a.id = expire_due.account_id
    returning a.next_expiry into next;
    exit when next is null or next > present;
  end loop;
end
$$;

comment on function credits.expire_due(uuid) is
'Second part of a settlement: ends the holds whose time is over, writes off the lots that have expired (one expiry row '
'per lot and moment) and notes when to look again. Each as of when it fell due. The caller holds the account''s lock '
'and has allocated what was pending.';
