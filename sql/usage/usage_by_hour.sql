create function credits.usage_by_hour(account_id uuid, end_at timestamptz, starts timestamptz[]) returns table (
  bucket integer,
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
  with range as (
    -- An hour more at both ends: the server's clock may have been set.
    select
      credits.entries_before(usage_by_hour.account_id, starts[1] - interval '1 hour') as after_id,
      credits.entries_before(usage_by_hour.account_id, end_at + interval '1 hour') as through_id
  ),

  entry as materialized (
    select t.id, t.kind, t.amount, t.quantity, t.price_version, t.related_id, t.created_at
    from range as r
    cross join lateral (
      select e.* from public.credit_transactions as e
      where
        (e.account_id, e.id) > (usage_by_hour.account_id, r.after_id)
        and (e.account_id, e.id) <= (usage_by_hour.account_id, r.through_id)
      offset 0
    ) as t
    where t.created_at >= starts[1] and t.created_at < end_at
  ),

  part as (
    select
      e.created_at,
      e.price_version,
      1 as transactions,
      e.quantity,
      -e.amount as spent,
      0::bigint as refunded,
      0::bigint as refunded_of
    from entry as e
    where e.price_version is not null
    union all
    select e.created_at, s.price_version, 0, 0, 0::bigint, e.amount, 0::bigint
    from entry as e
    inner join public.credit_transactions as s on s.account_id = usage_by_hour.account_id and e.related_id = s.id
    where e.kind = 'refund' and s.price_version is not null
    union all
    select e.created_at, e.price_version, 0, 0, 0::bigint, 0::bigint, r.amount
    from range
    inner join public.credit_transactions as r
      on r.account_id = usage_by_hour.account_id and r.related_id > range.after_id and r.related_id <= range.through_id
    inner join entry as e on r.related_id = e.id
    where r.kind = 'refund' and e.price_version is not null
  )

  select
    width_bucket(p.created_at, starts) as bucket,
    p.price_version,
    sum(p.transactions)::bigint,
    sum(p.quantity)::bigint,
    sum(p.spent)::bigint,
    sum(p.refunded)::bigint,
    sum(p.refunded_of)::bigint
  from part as p
  group by bucket, p.price_version;
$$;

comment on function credits.usage_by_hour(uuid, timestamptz, timestamptz[]) is
'The same as credits.usage_by_day from the ledger itself: bucket n begins at starts[n], the last ends before end_at.';
