create view credits.credit_allocations
with (security_invoker = true)
as
select
  p.account_id,
  t.id as transaction_id,
  p.grant_id,
  case t.id when p.first_id then p.first_amount when p.last_id then p.last_amount else -t.amount end as amount,
  p.number
from credits.lot_payments as p
inner join public.credit_transactions as t
  on p.account_id = t.account_id and t.id between p.first_id and p.last_id and t.amount < 0
union all
select
  r.account_id,
  r.transaction_id,
  r.grant_id,
  -r.amount as amount,
  null as number
from credits.lot_returns as r;

revoke all on table credits.credit_allocations from anon, authenticated, service_role;

comment on view credits.credit_allocations is
'Which lot paid for which transaction, in credits; negative where a refund put them back. number: the order in which '
'the account''s lots were taken. As of the last settlement: a transaction that is not there yet is not settled.';
