create view credits.daily_usage
with (security_invoker = true)
as
select
  u.account_id,
  u.day,
  h.new ->> 'operation' as operation,
  h.new ->> 'provider' as provider,
  h.new ->> 'model' as model,
  sum(u.transactions)::bigint as transactions,
  sum(u.quantity)::bigint as quantity,
  sum(u.spent)::bigint as spent,
  sum(u.refunded)::bigint as refunded,
  sum(u.refunded_of)::bigint as refunded_of
from credits.usage_as_of_now as u
left join credits.pricing_tier_history as h on u.price_version = h.version
group by u.account_id, u.day, h.new ->> 'operation', h.new ->> 'provider', h.new ->> 'model';

revoke all on table credits.daily_usage from anon, authenticated, service_role;

<<<<<<< HEAD
comment on view credits.daily_usage is
'For operators: usage by account, day in the account''s time zone, operation, provider and model, in credits and '
'units, as of now. refunded: on the day of the refund; refunded_of: of what was spent on this day, whenever that was.';
=======
comment on table credits.daily_usage is
'Spends, captures and refunds rolled up by account, UTC day and operation, for operators. Kept by settlement, so it '
'lacks what is not settled yet: of an account what came since credit_accounts.unsettled_since, of today up to '
'billing_settings.settle_after. Maintenance settles what is of an earlier day as soon as that is over: a day is '
'complete once no account has unsettled_since before its end.';
comment on column credits.daily_usage.day is 'UTC.';
comment on column credits.daily_usage.transactions is 'Spends and captures.';
comment on column credits.daily_usage.quantity is 'Units bought.';
comment on column credits.daily_usage.spent is 'Credits spent.';
comment on column credits.daily_usage.refunded is 'Credits refunded, on the day of the refund.';
>>>>>>> main
