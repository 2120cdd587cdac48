create function public.list_second_subscriptions(open_only boolean default false) returns table (
  subscription_id text,
  first_id text,
  account_id uuid,
  user_id uuid,
  plan text,
  status text,
  paid bigint,
  refunded bigint,
  currency text,
  noticed_at timestamptz,
  refund_at_once boolean,
  outcome text,
  note text,
  closed_at timestamptz
)
language sql
stable
security definer
set search_path = ''
as $$
  select
    o.subscription_id, o.first_id, o.account_id, a.user_id, s.plan, s.status, coalesce(p.paid, 0),
    coalesce(p.refunded, 0), p.currency, o.noticed_at, b.refund_second_subscriptions, o.outcome, o.note, o.closed_at
  from credits.second_subscriptions as o
  inner join public.subscriptions as s on o.account_id = s.account_id and o.subscription_id = s.id
  inner join public.credit_accounts as a on o.account_id = a.id
  cross join credits.billing_settings as b
  left join lateral (
    select
      sum(p.amount)::bigint as paid,
      sum(least(p.refunded_amount + p.disputed_amount, p.amount))::bigint as refunded,
      min(p.currency) as currency
    from public.purchases as p
    where p.account_id = o.account_id and p.subscription_id = o.subscription_id and p.status = 'paid'
  ) as p on true
  where
    not open_only
    or o.closed_at is null
    -- Paid after all, or the refund has failed.
    or o.outcome = 'refunded' and p.paid > p.refunded
  order by o.closed_at desc nulls first, o.noticed_at, o.subscription_id;
$$;

comment on function public.list_second_subscriptions(boolean) is
'Operator: subscriptions that were paid while the account had one already, those that are to be dealt with first: what '
'was paid and refunded (or disputed) in minor units of currency, and what became of it (outcome: refunded, kept, '
'dismissed). open_only: only what is to be dealt with.';

grant execute on function public.list_second_subscriptions(boolean) to service_role;
