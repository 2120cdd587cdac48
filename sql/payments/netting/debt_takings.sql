create function credits.debt_takings(account_id uuid) returns table (
  debt_id bigint,
  grant_id bigint,
  taken bigint,
  is_final boolean
)
language sql
stable
set search_path = ''
as $$
  select
    (t.metadata ->> 'downgrade')::bigint,
    t.related_id,
    sum(credits.left_to_refund(t))::bigint,
    coalesce(max(l.expires_at) <= credits.now(), false)
  from public.purchases as p
  cross join unnest(p.grant_ids) as g (id)
  inner join public.credit_transactions as t
    on p.account_id = t.account_id and g.id = t.related_id and t.kind = 'clawback' and t.metadata ? 'downgrade'
  inner join credits.credit_grants as l on p.account_id = l.account_id and g.id = l.transaction_id
  where p.account_id = debt_takings.account_id and p.subscription_id is not null
  group by 1, 2
  having sum(credits.left_to_refund(t)) > 0;
$$;

comment on function credits.debt_takings(uuid) is
'Credits that downgrades (debt_id: subscription_debts.purchase_id) have taken of an account''s grants and not given '
'back. is_final: the lot has expired since, so that they can no longer go back to it.';
