create function credits.allotment_months(period credits.allotments) returns table (
  number integer,
  starts_at timestamptz,
  ends_at timestamptz,
  credits bigint,
  granted bigint,
  cost_basis bigint
)
language plpgsql
stable
set search_path = ''
as $$
declare
  -- Months of the calendar in UTC, each counted from the first: the 31st stays the last day.
  origin timestamp := period.period_start at time zone 'UTC';
  entitled numeric;
  counted numeric := 0;
  paid numeric;
  paid_so_far numeric := 0;
  cost bigint;
begin
  for month in 1..period.months loop
    number := month;
    starts_at := (origin + make_interval(months => month - 1)) at time zone 'UTC';
    ends_at := case
      when month = period.months then period.period_end
      else (origin + make_interval(months => month)) at time zone 'UTC'
    end;
    select
      period.credits + coalesce(sum(c.credits), 0),
      case when count(c.cost_basis) = count(*) then period.cost_basis + coalesce(sum(c.cost_basis), 0) end
    into entitled, paid
    from credits.allotments as c
    where
      c.account_id = period.account_id
      and c.subscription_id = period.subscription_id
      and c.period_end = period.period_end
      and c.months is null
      and c.period_start <= starts_at;
    credits := greatest(0, floor((entitled - counted) / (period.months - month + 1)));
    -- Of what is left to pay for the credits that are left, the share of this month's: all of it for the last.
    cost_basis := case
      when paid <= paid_so_far then 0
      else round((paid - paid_so_far) * credits / nullif(entitled - counted, 0))
    end;
    select sum(l.amount), sum(l.cost_basis) into granted, cost
    from credits.purchase_grants as g
    inner join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
    where
      g.account_id = period.account_id
      and g.purchase_id = period.purchase_id
      and g.allotment_key = period.key
      and g.month = allotment_months.number;
    counted := counted + coalesce(granted, credits);
    paid_so_far := paid_so_far + case when granted is not null then cost when credits = 0 then 0 else cost_basis end;
    return next;
  end loop;
end
$$;

comment on function credits.allotment_months(credits.allotments) is
'The months of a period that is granted month by month: when each begins and ends, the credits that it brings, and '
'those that it has brought (null for none yet). What is left is spread evenly over the months that are left, so that '
'all of them sum to the period''s credits and what changes of plan added; so does what was paid for them (cost_basis, '
'minor units, null for unknown).';
