create function credits.collect_subscription_debts(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  debt record;
  lot record;
  part record;
  own bigint[];
  period text;
  claimed bigint := 0; -- by earlier debts of this period
  excused bigint := 0; -- what expired of this period and stands for what earlier debts wanted
  claim bigint;
  final bigint;
  unused bigint;
  wanted bigint;
  planned jsonb := jsonb_build_object(); -- credits by grant
  debts bigint[] := array[]::bigint[];
  grants bigint[] := array[]::bigint[];
  amounts bigint[] := array[]::bigint[];
begin
  if not exists (
    select from credits.subscription_debts as d where d.account_id = collect_subscription_debts.account_id
  ) then
    return;
  end if;

  -- The plan: made anew each time from what there is, so that it does not depend on what came first.
  for debt in
    select d.*, i.invoice_id
    from credits.subscription_debts as d
    inner join public.purchases as i on d.account_id = i.account_id and d.purchase_id = i.id
    where d.account_id = collect_subscription_debts.account_id
    order by d.period_end, d.subscription_id, d.period_start, i.invoice_id
  loop
    if period is distinct from concat_ws(' ', debt.period_end, debt.subscription_id) then
      period := concat_ws(' ', debt.period_end, debt.subscription_id);
      claimed := 0;
      excused := 0;
    end if;

    -- Too much is at most what the period brought and neither refunds nor another downgrade took; nothing, while its
    -- own credits are yet to come: a later period's are not to blame for that.
    select
      least(debt.amount, greatest(0, coalesce(sum(p.credits_granted - p.credits_clawed_back), 0)::bigint - claimed)),
      array(
        select g.transaction_id from public.purchases as o
        inner join credits.purchase_grants as g on o.account_id = g.account_id and o.id = g.purchase_id
        where
          o.account_id = debt.account_id and o.subscription_id = debt.subscription_id and o.period_end = debt.period_end
      )
    into claim, own
    from public.purchases as p
    where
      p.account_id = debt.account_id and p.subscription_id = debt.subscription_id and p.period_end = debt.period_end;
    claimed := claimed + claim;

    -- What expired unused was there to be taken, had the message come in time.
    select coalesce(sum(t.taken), 0)::bigint into final
    from credits.debt_takings(debt.account_id) as t
    where t.debt_id = debt.purchase_id and t.is_final;
    select least(coalesce(-sum(t.amount), 0)::bigint - excused, greatest(0, claim - final)) into unused
    from public.credit_transactions as t
    inner join credits.credit_grants as l on t.account_id = l.account_id and t.related_id = l.transaction_id
    where t.account_id = debt.account_id and t.related_id = any(own) and t.kind = 'expiry' and l.expires_at > debt.period_start;
    excused := excused + unused;

    wanted := greatest(0, claim - final - unused);
    for lot in
      select
        g.transaction_id as id,
        l.remaining + coalesce((
          select sum(t.taken) from credits.debt_takings(debt.account_id) as t where t.grant_id = g.transaction_id
        ), 0) - coalesce((planned ->> g.transaction_id::text)::bigint, 0) as available
      from public.purchases as p
      inner join credits.purchase_grants as g on p.account_id = g.account_id and p.id = g.purchase_id
      inner join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
      where
        wanted > 0
        and p.account_id = debt.account_id
        and p.subscription_id is not null
        and p.period_end > debt.period_start
        and l.expires_at > credits.now()
      order by g.transaction_id = any(own) desc, p.period_end, l.expires_at, g.transaction_id
    loop
      claim := least(wanted, lot.available);
      continue when claim <= 0;
      wanted := wanted - claim;
      planned := planned || jsonb_build_object(lot.id, coalesce((planned ->> lot.id::text)::bigint, 0) + claim);
      debts := debts || debt.purchase_id;
      grants := grants || lot.id;
      amounts := amounts || claim;
    end loop;
    update credits.subscription_debts as d set owed = wanted
    where d.account_id = debt.account_id and d.purchase_id = debt.purchase_id and d.owed <> wanted;
  end loop;

  -- What differs from it: first back, then anew.
  for part in
    with plan as (
      select * from unnest(debts, grants, amounts) as x (debt_id, grant_id, credits)
    ),

    taken as (
      select t.* from credits.debt_takings(collect_subscription_debts.account_id) as t where not t.is_final
    )

    select
      debt_id,
      grant_id,
      coalesce(plan.credits, 0) - coalesce(taken.taken, 0) as more
    from plan
    full join taken using (debt_id, grant_id)
    order by more, grant_id, debt_id
  loop
    if part.more < 0 then
      perform credits.give_back_clawbacks(
        collect_subscription_debts.account_id, 'downgrade', part.debt_id, -part.more,
        jsonb_build_object('downgrade', part.debt_id), part.grant_id
      );
    elsif part.more > 0 then
      perform credits.claw_back(
        collect_subscription_debts.account_id, part.more, part.grant_id,
        metadata => jsonb_build_object('downgrade', part.debt_id),
        cause => 'downgrade',
        purchase_id => part.debt_id
      );
    end if;
  end loop;
end
$$;

comment on function credits.collect_subscription_debts(uuid) is
'Takes back what downgrades of the account''s subscriptions left too much: from the unspent credits of the same '
'period, then from those of later ones, of whichever subscription; never from what was purchased, nor what refunds '
'took or what expired unused. What is spent stays owed, so that going up and down again, or leaving and coming back, '
'wins nothing. The result depends on what is known, not on the order in which it came. The caller holds the account''s '
'lock.';
