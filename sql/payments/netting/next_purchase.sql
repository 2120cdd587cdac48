create function credits.next_purchase(account_id uuid) returns bigint
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return (
    select coalesce(max(p.id), 0) + 1 from public.purchases as p where p.account_id = next_purchase.account_id
  );
end
$$;

comment on function credits.next_purchase(uuid) is
'The number of the account''s next purchase. The caller holds the account''s lock.';
