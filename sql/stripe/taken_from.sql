create function credits.taken_from(grant_ids bigint[]) returns bigint
language sql
stable
set search_path = ''
as $$
  select coalesce(sum(credits.left_to_refund(t)), 0)::bigint
  from public.credit_transactions as t
  where t.related_id = any(grant_ids) and t.kind = 'clawback';
$$;

comment on function credits.taken_from(bigint[]) is
'Credits of these grants that were clawed back, by refunds, disputes and downgrades, less what was given back.';
