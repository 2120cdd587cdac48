create function credits.unsettled_of(accounts uuid[]) returns uuid[]
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select array_agg(a.id) from public.credit_accounts as a
    where a.id = any(accounts) and a.last_entry > a.settled_through
  );
end
$$;

comment on function credits.unsettled_of(uuid[]) is
'Those of the accounts with ledger rows that are not settled; null for none.';
