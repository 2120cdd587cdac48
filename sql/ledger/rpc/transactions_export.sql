create view public.transactions_export
with (security_invoker = true)
as
select
  t.id,
  t.created_at,
  t.account_id,
  a.user_id,
  t.kind,
  t.amount,
  t.balance_after,
  t.quantity,
  t.unit_price,
  t.price_version,
  t.hold_id,
  t.related_id,
  t.actor,
  credits.csv_text(t.operation) as operation,
  credits.csv_text(t.idempotency_key) as idempotency_key,
  credits.csv_text(t.metadata::text) as metadata
from public.credit_transactions as t
left join public.credit_accounts as a on t.account_id = a.id;

revoke all on table public.transactions_export from anon, authenticated, service_role;
grant select on table public.transactions_export to service_role;

comment on view public.transactions_export is
'Operator: the ledger for spreadsheets (Accept: text/csv). What callers wrote cannot be taken for a formula: see '
'credits.csv_text. Numbers stay numbers.';
