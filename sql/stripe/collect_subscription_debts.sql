create function credits.collect_subscription_debts(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  debt record;
  own bigint[];
  later bigint[];
  left_over bigint;
  taken bigint;
begin
  for debt in
    select d.* from credits.subscription_debts as d
    where d.account_id = collect_subscription_debts.account_id and d.owed > 0
    order by d.period_end, d.purchase_id
  loop
    select
      array_agg(g.id) filter (where p.subscription_id = debt.subscription_id and p.period_end = debt.period_end),
      array_agg(g.id) filter (
        where (p.subscription_id, p.period_end) is distinct from (debt.subscription_id, debt.period_end)
        and p.period_end > debt.period_start
      )
    into own, later
    from public.purchases as p
    cross join unnest(p.grant_ids) as g (id)
    where p.account_id = debt.account_id and p.subscription_id is not null;

    -- Too much is what the period brought and neither refunds nor another downgrade took; nothing, while its own credits
    -- are yet to come: a later period's are not to blame for that.
    select coalesce(sum(g.amount), 0) - credits.taken_from(own) into left_over
    from credits.credit_grants as g
    where g.transaction_id = any(own);
    taken := 0;
    for attempt in 1..2 loop
      taken := taken + credits.take_from_grants(
        debt.account_id, least(debt.owed, left_over) - taken, case attempt when 1 then own else later end,
        jsonb_build_object('downgrade', debt.purchase_id, 'subscription', debt.subscription_id),
        beyond => false
      );
    end loop;
    update credits.subscription_debts as d set owed = d.owed - taken where d.purchase_id = debt.purchase_id;
  end loop;
end
$$;

comment on function credits.collect_subscription_debts(uuid) is
'Takes back what downgrades of the account''s subscriptions left too much: from the unspent credits of the same '
'period, then from those of later ones, of whichever subscription; never from what was purchased. What is spent '
'stays owed, so that going up and down again, or leaving and coming back, wins nothing. The caller holds the '
'account''s lock.';
