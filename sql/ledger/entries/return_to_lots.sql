create function credits.return_to_lots(entry public.credit_transactions) returns void
language plpgsql
set search_path = ''
as $$
declare
  still_to_return bigint := entry.amount;
  grace timestamptz;
  lot record;
  part bigint;
  returned bigint;
begin
  select entry.created_at + s.refund_grace into grace from credits.billing_settings as s;

  -- What was paid last is given back first, as if less had been spent. So it does not matter into how many refunds an
  -- amount is split: which part of the transaction it undoes depends on how much was refunded before, and on nothing else.
  for lot in
    with refunds as (
      select t.id from public.credit_transactions as t
      where t.account_id = entry.account_id and t.related_id = entry.related_id and t.kind = 'refund'
    ),

    paid as (
      select
        x.grant_id,
        max(x.number) as last_paid,
        sum(x.amount) as amount
      from credits.credit_allocations as x
      where x.account_id = entry.account_id and x.transaction_id = entry.related_id
      group by x.grant_id
    )

    -- What no lot has paid for yet, its own debt, goes before any of them.
    select
      null as id,
      null as expires_at,
      null as priority,
      0 as cost_basis,
      null as currency,
      null as size,
      -spent.amount - coalesce((select sum(p.amount) from paid as p), 0) as left_to_return,
      null as last_paid
    from public.credit_transactions as spent
    where spent.account_id = entry.account_id and spent.id = entry.related_id
    union all
    select
      g.id,
      g.expires_at,
      g.priority,
      g.cost_basis,
      g.currency,
      g.amount,
      p.amount
      + coalesce((
        select -sum(r.amount) from credits.lot_returns as r
        where
          r.account_id = entry.account_id and r.grant_id = g.id and r.transaction_id in (select refunds.id from refunds)
      ), 0)
      - coalesce((
        select sum(n.amount) from credits.credit_grants as n
        where
          n.account_id = entry.account_id and n.returned_from = g.id
          and n.transaction_id in (select refunds.id from refunds)
      ), 0),
      p.last_paid
    from paid as p
    inner join credits.credit_grants as g on g.account_id = entry.account_id and p.grant_id = g.id
    -- What paid off its own debt in an earlier refund came from no lot.
    where g.returned_from is not null or g.transaction_id not in (select refunds.id from refunds)
    order by last_paid desc nulls first
  loop
    part := least(still_to_return, lot.left_to_return);
    continue when part <= 0;
    still_to_return := still_to_return - part;
    if lot.id is null then
      -- Not an older debt, and not from other lots: the debt that this transaction made is taken back.
      perform credits.add_lot(entry, part, 'refund', grace, null, cost_basis => 0);
      with paying as (
        update credits.credit_grants as g set remaining = 0
        where
          g.account_id = entry.account_id
          and g.id = (select max(n.id) from credits.credit_grants as n where n.account_id = entry.account_id)
        returning g.id
      )

      insert into credits.lot_payments (
        account_id, grant_id, first_id, last_id, first_amount, last_amount, number, is_late
      )
      select
        entry.account_id, paying.id, entry.related_id, entry.related_id, part, part,
        (select coalesce(max(p.number), 0) + 1 from credits.lot_payments as p where p.account_id = entry.account_id), true
      from paying;
    elsif lot.expires_at <= entry.created_at then
      -- The share of what was paid for the lot, so that all parts together have no more and no less than all of it.
      select coalesce(sum(n.amount), 0) into returned
      from credits.credit_grants as n
      where n.account_id = entry.account_id and n.returned_from = lot.id;
      perform credits.add_lot(
        entry, part, 'refund', grace, lot.priority, lot.id,
        (
          div(lot.cost_basis::numeric * (returned + part), lot.size) - div(lot.cost_basis::numeric * returned, lot.size)
        )::bigint,
        lot.currency
      );
    else
      insert into credits.lot_returns (account_id, transaction_id, grant_id, amount)
      values (entry.account_id, entry.id, lot.id, part);
      update credits.credit_grants as g set remaining = g.remaining + part
      where g.account_id = entry.account_id and g.id = lot.id;
    end if;
    -- At once, with what has just come back, not with what another part of the refund fills next.
    perform credits.pay_debt_from_new_credits(entry.account_id);
  end loop;

  update public.credit_accounts as a set next_expiry = credits.next_expiry(a.id, entry.created_at)
  where a.id = entry.account_id;
  perform credits.return_debt(entry.account_id);
end
$$;

comment on function credits.return_to_lots(public.credit_transactions) is
'Puts the credits of a refund back where its transaction had them from, what was paid last first: takes back what of '
'it is still a debt, then fills the lots that paid for it; those that have expired since, as new lots that live for '
'billing_settings.refund_grace. What comes back pays the account''s other debts first. Several refunds end as one of '
'the same sum does. A deleted user''s account passes them on as far as its successor took over its debt. The caller '
'holds the account''s lock and has settled it.';
