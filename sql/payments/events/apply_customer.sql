create function credits.apply_customer(customer jsonb, event_type text) returns text
language plpgsql
set search_path = ''
as $$
begin
  if event_type is distinct from 'customer.deleted' and customer -> 'deleted' is distinct from 'true' then
    return 'ignored: The customer exists; only its deletion counts.';
  end if;
  insert into credits.stripe_customers as c (customer_id, deleted_at) values (customer ->> 'id', credits.now())
  on conflict (customer_id) do update set account_id = null, email_hash = null, deleted_at = excluded.deleted_at
  where c.deleted_at is null;
  return case when found then 'changed' else 'unchanged' end;
end
$$;

comment on function credits.apply_customer(jsonb, text) is
'Unlinks a deleted customer from its account; the ledger stays. Returns changed, unchanged or ignored.';
