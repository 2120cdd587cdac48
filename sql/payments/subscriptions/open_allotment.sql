create function credits.open_allotment(
  account_id uuid,
  purchase_id bigint,
  key text,
  amount bigint,
  period_start timestamptz,
  period_end timestamptz,
  rollover interval,
  rollover_cap bigint,
  priority integer,
  cost_basis bigint
) returns void
language plpgsql
set search_path = ''
as $$
declare
  origin timestamp := period_start at time zone 'UTC';
  finish timestamp := period_end at time zone 'UTC';
  -- Of the calendar; not by age(), to which 30 November to 28 February is less than three months.
  count integer := (extract(year from finish) - extract(year from origin)) * 12
    + extract(month from finish) - extract(month from origin);
begin
  if origin + make_interval(months => count) > finish then
    count := count - 1;
  end if;
  insert into credits.allotments (
    purchase_id, account_id, subscription_id, period_start, period_end, credits, months, key, rollover, rollover_cap,
    priority, next_at, cost_basis
  )
  select
    p.id, p.account_id, p.subscription_id, open_allotment.period_start, open_allotment.period_end, open_allotment.amount,
    greatest(1, count), open_allotment.key, open_allotment.rollover,
    open_allotment.rollover_cap, open_allotment.priority, open_allotment.period_start, open_allotment.cost_basis
  from public.purchases as p
  where p.account_id = open_allotment.account_id and p.id = open_allotment.purchase_id;
  perform credits.grant_allotments(account_id, purchase_id);
end
$$;

comment on function credits.open_allotment is
'Begins a paid period whose credits come month by month, and grants what has begun of it. The caller holds the '
'account''s lock.';
