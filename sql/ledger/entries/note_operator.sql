create function credits.note_operator(entry public.credit_transactions) returns void
language plpgsql
set search_path = ''
as $$
begin
  if entry.actor = 'operator' then
    insert into credits.operator_entries (account_id, transaction_id) values (entry.account_id, entry.id);
  end if;
end
$$;

comment on function credits.note_operator(public.credit_transactions) is
'Keeps the login of a direct session that wrote the ledger row, where users cannot read it.';
