create function credits.usage_of(account_id uuid, zone text, after_id bigint, through_id bigint) returns table (
  day date,
  price_version bigint,
  transactions bigint,
  quantity bigint,
  spent bigint,
  refunded bigint,
  refunded_of bigint
)
language sql
stable
set search_path = ''
as $$
  with entry as materialized (
    select
      (t.created_at at time zone usage_of.zone)::date as day,
      t.kind,
      t.amount,
      t.quantity,
      t.price_version,
      t.related_id
    from public.credit_transactions as t
    -- As rows: the planner then takes the rows of the account in order, however many they are.
    where
      (t.account_id, t.id) > (usage_of.account_id, after_id)
      and (t.account_id, t.id) <= (usage_of.account_id, through_id)
  ),

  part as (
    select
      e.day,
      e.price_version,
      1 as transactions,
      e.quantity,
      -e.amount as spent,
      0::bigint as refunded,
      0::bigint as refunded_of
    from entry as e
    where e.price_version is not null
    union all
    select p.day, s.price_version, 0, 0, 0::bigint, p.refunded, p.refunded_of
    from entry as e
    inner join public.credit_transactions as s on s.account_id = usage_of.account_id and e.related_id = s.id
    cross join lateral (
      values (e.day, e.amount, 0::bigint), ((s.created_at at time zone usage_of.zone)::date, 0::bigint, e.amount)
    ) as p (day, refunded, refunded_of)
    where e.kind = 'refund' and s.price_version is not null
  )

  select
    p.day,
    p.price_version,
    sum(p.transactions)::bigint,
    sum(p.quantity)::bigint,
    sum(p.spent)::bigint,
    sum(p.refunded)::bigint,
    sum(p.refunded_of)::bigint
  from part as p
  group by p.day, p.price_version;
$$;

comment on function credits.usage_of(uuid, text, bigint, bigint) is
'What the account''s ledger rows after after_id up to through_id add to credits.usage_days, by day in the zone and '
'price. A refund counts twice: as refunded on its own day, and as refunded_of on that of its spend. One of a clawback '
'is no usage. credits.settle_batch adds the same up for many accounts at once; verify_ledger compares. What a chart '
'reads is credit_usage.';
