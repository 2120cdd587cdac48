create function credits.has_text(entry public.credit_transactions) returns boolean
language sql
immutable
as $$
  select entry.idempotency_key is not null or entry.metadata <> '{}';
$$;

comment on function credits.has_text(public.credit_transactions) is
'Whether a ledger row has anything that can be erased: an idempotency key or metadata. Without a SET clause it is '
'planned as part of its caller.';
