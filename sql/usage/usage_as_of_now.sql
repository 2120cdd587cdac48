create view credits.usage_as_of_now
with (security_invoker = true)
as
select
  u.account_id,
  u.day,
  u.price_version,
  u.transactions,
  u.quantity,
  u.spent,
  u.refunded,
  u.refunded_of
from credits.usage_days as u
union all
select
  a.id as account_id,
  u.day,
  u.price_version,
  u.transactions,
  u.quantity,
  u.spent,
  u.refunded,
  u.refunded_of
from public.credit_accounts as a
cross join lateral credits.usage_of(a.id, credits.account_zone(a.id), a.settled_through, a.last_entry) as u
where a.last_entry > a.settled_through;

revoke all on table credits.usage_as_of_now from anon, authenticated, service_role;

comment on view credits.usage_as_of_now is
'credits.usage_days and, in rows of their own, what is not settled yet: add them up.';
