create function credits.end_late_grants(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  lot record;
begin
  for lot in
    select l.id
    from credits.purchase_grants as g
    inner join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
    inner join public.purchases as p on g.account_id = p.account_id and g.purchase_id = p.id
    cross join credits.billing_settings as s
    where
      g.account_id = end_late_grants.account_id
      and g.is_late
      and l.remaining > 0
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
