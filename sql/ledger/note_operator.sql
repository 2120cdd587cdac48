create function credits.note_operator(entry public.credit_transactions) returns void
language sql
set search_path = ''
as $$
  insert into credits.operator_entries (transaction_id) select entry.id where entry.actor = 'operator';
$$;

comment on function credits.note_operator(public.credit_transactions) is
'Keeps the login of a direct session that wrote the ledger row, where users cannot read it.';
