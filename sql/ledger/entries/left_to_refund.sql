create function credits.left_to_refund(debit public.credit_transactions) returns bigint
language sql
stable
set search_path = ''
as $$
  select -debit.amount - coalesce(sum(t.amount), 0)::bigint
  from public.credit_transactions as t
  where t.account_id = debit.account_id and t.related_id = debit.id and t.kind = 'refund';
$$;

comment on function credits.left_to_refund(public.credit_transactions) is
'What of a spend, capture or clawback has not been given back yet. Stays true under the account''s lock.';
