create function public.stripe_balance_transactions_to_ask(after text default '') returns text[]
language sql
stable
security definer
set search_path = ''
as $$
  select coalesce(array_agg(b.id order by b.id), '{}')
  from (
    select t.id
    from credits.stripe_balance_transactions as t
    inner join credits.stripe_payments as p on t.payment_intent_id = p.payment_intent_id
    where t.amount is null and t.id > after and p.purchase_id is not null
      and not exists (select from credits.dismissed_stripe_objects as d where d.object_id = t.id)
    order by t.id
    limit 100
  ) as b;
$$;

comment on function public.stripe_balance_transactions_to_ask(text) is
'For reconciliation: ids of Stripe''s balance transactions that purchases, their refunds and disputes name, and whose '
'figures are not known yet, but for those that were dismissed: the first 100 in order after that id. Tell them to '
'ingest_stripe_object.';

grant execute on function public.stripe_balance_transactions_to_ask(text) to service_role;
