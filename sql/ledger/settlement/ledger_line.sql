create function credits.ledger_line(entry public.credit_transactions) returns text
language sql
stable
as $$
  select row(
    entry.id, entry.account_id, entry.kind, entry.amount, entry.balance_after, entry.operation, entry.quantity,
    entry.unit_price, entry.price_version, entry.hold_id, entry.related_id, entry.actor, entry.idempotency_key,
    entry.metadata, extract(epoch from entry.created_at)
  )::text;
$$;

comment on function credits.ledger_line(public.credit_transactions) is
'A ledger row as one line of text, the same in every session whatever its time zone or date style.';
