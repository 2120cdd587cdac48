create view credits.lots_in_burn_order
with (security_invoker = true)
as
select
  g.*,
  row_number() over (
    partition by g.account_id
    order by g.priority asc, g.expires_at asc nulls last, g.promotional desc, g.id asc
  ) as burn_position
from credits.credit_grants as g
where g.is_live;

revoke all on table credits.lots_in_burn_order from anon, authenticated, service_role;

comment on view credits.lots_in_burn_order is
'Lots with something left, and the order in which an account''s lots burn: by priority, then earliest expiry, then '
'promotional before paid, then oldest. The one place that says so. As of the last settlement.';
