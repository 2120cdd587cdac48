create function credits.collect_subscription_debts(subscription_id text) returns void
language plpgsql
set search_path = ''
as $$
declare
  debt record;
  own bigint [];
  later bigint [];
  taken bigint;
begin
  for debt in
    select d.*, p.account_id
    from credits.subscription_debts as d
    inner join public.purchases as p on d.purchase_id = p.id
    where d.subscription_id = collect_subscription_debts.subscription_id and d.owed > 0
    order by d.period_end, d.purchase_id
  loop
    select
      array_agg(g.id) filter (where p.period_end = debt.period_end),
      array_agg(g.id) filter (where p.period_end > debt.period_end)
    into own, later
    from public.purchases as p
    cross join unnest(p.grant_ids) as g (id)
    where p.subscription_id = debt.subscription_id;
    -- Until the period's own credits are in, a later period's are not to blame.
    continue when own is null;
    taken := 0;
    for attempt in 1..2 loop
      taken := taken + credits.take_from_grants(
        debt.account_id, debt.owed - taken, case attempt when 1 then own else later end,
        jsonb_build_object('purchase', debt.purchase_id, 'subscription', debt.subscription_id),
        beyond => false
      );
    end loop;
    update credits.subscription_debts as d set owed = d.owed - taken where d.purchase_id = debt.purchase_id;
  end loop;
end
$$;

comment on function credits.collect_subscription_debts(text) is
'Takes back what downgrades of a subscription left too much: from the unspent credits of the same period, then of '
'later ones; never from what was purchased. What is spent stays owed, so that going up and down again wins nothing. '
'The caller holds the account''s lock.';
