create function credits.grant_allotments(account_id uuid, purchase_id bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  period credits.allotments;
  month record;
  rolling bigint;
  own bigint;
  grants bigint[];
begin
  select * into period from credits.allotments as a
  where
    a.account_id = grant_allotments.account_id
    and a.purchase_id = grant_allotments.purchase_id
    and a.months is not null
    and a.next_at <= credits.now();
  if not found then
    return;
  end if;
  for month in
    select m.* from credits.allotment_months(period) as m
    where
      m.starts_at <= credits.now()
      and m.granted is null
      and m.credits > 0
      -- What ended at once, and not with its period, goes no further.
      and not exists (
        select from public.subscriptions as s
        where s.account_id = period.account_id and s.id = period.subscription_id and s.ended_at <= m.starts_at
      )
      -- All the money went back, also that of changes. Should it return, a month that goes on then is granted then.
      and exists (
        select from credits.allotments as c
        inner join public.purchases as p on c.account_id = p.account_id and c.purchase_id = p.id
        where
          c.account_id = period.account_id
          and c.subscription_id = period.subscription_id
          and c.period_end = period.period_end
          and (c.months is not null or c.credits > 0 and c.period_start <= m.starts_at)
          and (p.amount = 0 or p.refunded_amount + p.disputed_amount < p.amount)
      )
      -- What would have expired by now need not come; the last one of all is the newest, and may be late.
      and (m.ends_at > credits.now() or m.number = period.months)
    order by m.number
  loop
    -- What changes of plan add to a month, their payments paid for.
    own := least(month.credits, round(period.credits::numeric / period.months));
    rolling := case when period.rollover > '0' then least(month.credits, coalesce(period.rollover_cap, month.credits)) else 0 end;
    grants := array[]::bigint[];
    if month.credits > rolling then
      grants := grants || credits.grant_purchase(
        account_id, period.purchase_id, month.credits - rolling, 'subscription', month.ends_at, period.priority,
        format('%s:%s', period.key, month.number),
        month.cost_basis - round(month.cost_basis::numeric * rolling / month.credits)::bigint,
        period.key, month.number
      );
    end if;
    if rolling > 0 then
      grants := grants || credits.grant_purchase(
        account_id, period.purchase_id, rolling, 'subscription', month.ends_at + period.rollover, period.priority,
        format('%s:%s:rollover', period.key, month.number),
        round(month.cost_basis::numeric * rolling / month.credits)::bigint, period.key, month.number
      );
    end if;
    insert into credits.allotment_sources (account_id, transaction_id, purchase_id, part)
    with changes as (
      select
        a.purchase_id,
        sum(a.credits::numeric / x.months) as rate,
        sum(sum(a.credits::numeric / x.months)) over () as rates
      from credits.allotments as a
      cross join lateral (
        select count(*) as months from credits.allotment_months(period) as n where n.starts_at >= a.period_start
      ) as x
      where
        month.credits > own
        and a.account_id = period.account_id
        and a.subscription_id = period.subscription_id
        and a.period_end = period.period_end
        and a.months is null
        and a.credits > 0
        and a.period_start <= month.starts_at
      group by a.purchase_id
    )

    select period.account_id, g.id, s.purchase_id, s.part
    from unnest(grants) as g (id)
    cross join (
      select c.purchase_id, round((month.credits - own) * c.rate / c.rates, 6) as part from changes as c
      union all
      select period.purchase_id, own where exists (select from changes)
    ) as s;
  end loop;

  update credits.allotments as a
  set next_at = (
    select min(m.starts_at) from credits.allotment_months(period) as m where m.starts_at > credits.now()
  )
  where a.account_id = period.account_id and a.purchase_id = period.purchase_id and a.key = period.key;
end
$$;

comment on function credits.grant_allotments(uuid, bigint) is
'Grants the months of a purchase''s period that have begun, once each; none while all of its money is refunded or '
'disputed, and none that begins after the subscription has ended. credits.claw_back_share, which takes the share of a '
'part that was refunded, and credits.collect_subscription_debts have to follow. The caller holds the account''s lock.';
