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

  -- The lot that burned last is filled first, as if less had been spent.
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

    -- What no lot has paid for yet, a debt, goes back before any of them.
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
    order by last_paid desc nulls first
  loop
    part := least(still_to_return, lot.left_to_return);
    continue when part <= 0;
    still_to_return := still_to_return - part;
    if lot.id is null or lot.expires_at <= entry.created_at then
      -- The share of what was paid for the lot, so that all parts together have no more and no less than all of it.
      select coalesce(sum(n.amount), 0) into returned
      from credits.credit_grants as n
      where n.account_id = entry.account_id and n.returned_from = lot.id;
      perform credits.add_lot(
        entry, part, 'refund', grace, lot.priority, lot.id,
        case
          when lot.id is null then 0
          else div(lot.cost_basis::numeric * (returned + part), lot.size) - div(lot.cost_basis::numeric * returned, lot.size)
        end::bigint,
        lot.currency
      );
    else
      insert into credits.lot_returns (account_id, transaction_id, grant_id, amount)
      values (entry.account_id, entry.id, lot.id, part);
      update credits.credit_grants as g set remaining = g.remaining + part
      where g.account_id = entry.account_id and g.id = lot.id;
    end if;
  end loop;

  update public.credit_accounts as a set next_expiry = credits.next_expiry(a.id, entry.created_at)
  where a.id = entry.account_id;
  perform credits.pay_debt_from_new_credits(entry.account_id);
  perform credits.return_debt(entry.account_id);
end
$$;

comment on function credits.return_to_lots(public.credit_transactions) is
'Puts the credits of a refund back into the lots that paid for its transaction; for lots that have expired since, into '
'new lots that live for billing_settings.refund_grace. A deleted user''s account passes them on as far as its '
'successor took over its debt. The caller holds the account''s lock and has settled it.';
