create function credits.actor() returns text
language plpgsql
stable
set search_path = ''
as $$
declare
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  role text := auth.role();
begin
  return case when role in ('anon', 'authenticated', 'service_role') then role else 'operator' end;
end
$$;

comment on function credits.actor() is
'Who acts, as ledger rows say it: the API role, or operator for a direct session. Users read it, so it names no login; '
'see operator_entries.';
