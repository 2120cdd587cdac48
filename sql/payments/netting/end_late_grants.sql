create function credits.end_late_grants(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  lot record;
begin
  for lot in
    select l.id
    from credits.credit_grants as l
    inner join public.credit_transactions as t on l.account_id = t.account_id and l.transaction_id = t.id
    inner join public.purchases as p on t.account_id = p.account_id and (t.metadata ->> 'purchase')::bigint = p.id
    cross join credits.billing_settings as s
    where
      l.account_id = end_late_grants.account_id
      and l.remaining > 0
      and t.metadata ? 'late'
      and (
        s.late_grant_grace = '0'
        or exists (
          select from public.purchases as n
          where n.account_id = p.account_id and n.subscription_id = p.subscription_id and n.period_end > p.period_end
        )
      )
    order by l.id
  loop
    perform credits.end_lot(account_id, lot.id);
  end loop;
end
$$;

comment on function credits.end_late_grants(uuid) is
'Lets the credits expire that were granted after their period was over, unless it is the newest of its subscription: '
'so late messages leave what they would have left in time. Called after refunds and downgrades have taken their share. '
'The caller holds the account''s lock.';
