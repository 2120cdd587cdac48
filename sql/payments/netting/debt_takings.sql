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
    c.purchase_id,
    t.related_id,
    sum(credits.left_to_refund(t))::bigint,
    coalesce(max(l.expires_at) <= credits.now(), false)
  from credits.clawbacks as c
  inner join public.credit_transactions as t on c.account_id = t.account_id and c.transaction_id = t.id
  inner join credits.credit_grants as l on t.account_id = l.account_id and t.related_id = l.transaction_id
  where c.account_id = debt_takings.account_id and c.cause = 'downgrade'
  group by 1, 2
  having sum(credits.left_to_refund(t)) > 0;
$$;

comment on function credits.debt_takings(uuid) is
'Credits that downgrades (debt_id: subscription_debts.purchase_id) have taken of an account''s grants (grant_id: the '
'grant''s ledger row) and not given back. is_final: the lot has expired since, so that they can no longer go back to '
'it.';
