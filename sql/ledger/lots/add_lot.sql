create function credits.add_lot(
  entry public.credit_transactions,
  amount bigint,
  source public.grant_source,
  expires_at timestamptz,
  priority integer,
  returned_from bigint default null,
  cost_basis bigint default null,
  currency text default null
) returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into credits.credit_grants (
    account_id, id, transaction_id, amount, remaining, source, cost_basis, currency, expires_at, priority, returned_from,
    created_at
  )
  values (
    entry.account_id,
    (select coalesce(max(g.id), 0) + 1 from credits.credit_grants as g where g.account_id = entry.account_id),
    entry.id, add_lot.amount, add_lot.amount, add_lot.source, add_lot.cost_basis, add_lot.currency,
    add_lot.expires_at, coalesce(add_lot.priority, 50), add_lot.returned_from, entry.created_at
  );
end
$$;

comment on function credits.add_lot is
'Opens a lot for what the ledger row brought in. The caller holds the account''s lock, sets its next_expiry and pays '
'its debt.';
