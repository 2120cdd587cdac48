create function credits.ledger_line(
  entry public.credit_transactions,
  format smallint,
  text_digest bytea
) returns text
language sql
stable
as $$
  select case format
    when 1 then row(
      entry.account_id, entry.id, entry.kind, entry.amount, entry.balance_after, entry.operation, entry.quantity,
      entry.unit_price, entry.price_version, entry.hold_id, entry.related_id, entry.actor,
      extract(epoch from entry.created_at)
    )::text
    || coalesce(' text=' || encode(text_digest, 'hex'), '')
  end;
$$;

comment on function credits.ledger_line(public.credit_transactions, smallint, bytea) is
'A ledger row as one line of text, the same in every session whatever its time zone or date style; null in a format '
'that there is not. format: see credits.seal_format. What the caller wrote goes in as its digest, so that it can be '
'erased: see credits.sealed_texts. A column that is added later is appended as '' name=value'' where it is not null.';
