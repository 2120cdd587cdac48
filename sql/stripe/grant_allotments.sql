create function credits.grant_allotments(purchase_id bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  period credits.allotments;
  month record;
  rolling bigint;
  is_void boolean;
begin
  select * into period from credits.allotments as a
  where a.purchase_id = grant_allotments.purchase_id and a.months is not null and a.next_at <= credits.now();
  if not found then
    return;
  end if;
  -- The money went back, all of it. Should it return, a month that goes on then is granted then.
  select p.amount > 0 and p.refunded_amount + p.disputed_amount >= p.amount into is_void
  from public.purchases as p
  where p.id = period.purchase_id;

  for month in
    select m.* from credits.allotment_months(period) as m
    where
      m.starts_at <= credits.now()
      and m.granted is null
      and m.credits > 0
      and not is_void
      -- What would have expired by now need not come; the last one of all is the newest, and may be late.
      and (m.ends_at > credits.now() or m.number = period.months)
    order by m.number
  loop
    rolling := case when period.rollover > '0' then least(month.credits, coalesce(period.rollover_cap, month.credits)) else 0 end;
    if month.credits > rolling then
      perform credits.grant_purchase(
        period.purchase_id, month.credits - rolling, 'subscription', month.ends_at, period.priority,
        format('%s:%s', period.key, month.number)
      );
    end if;
    if rolling > 0 then
      perform credits.grant_purchase(
        period.purchase_id, rolling, 'subscription', month.ends_at + period.rollover, period.priority,
        format('%s:%s:rollover', period.key, month.number)
      );
    end if;
  end loop;

  update credits.allotments as a
  set next_at = (
    select min(m.starts_at) from credits.allotment_months(period) as m where m.starts_at > credits.now()
  )
  where a.purchase_id = period.purchase_id and a.key = period.key;
end
$$;

comment on function credits.grant_allotments(bigint) is
'Grants the months of a purchase''s period that have begun, once each; none while all of its money is refunded or '
'disputed. credits.net_purchase, which takes the share of a part that was refunded, and '
'credits.collect_subscription_debts have to follow. The caller holds the account''s lock.';
