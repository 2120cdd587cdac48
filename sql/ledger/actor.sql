create function credits.actor() returns text
language sql
stable
set search_path = ''
as $$
  select case when auth.role() in ('anon', 'authenticated', 'service_role') then auth.role() else 'operator' end;
$$;

comment on function credits.actor() is
'Who acts, as ledger rows say it: the API role, or operator for a direct session. Users read it, so it names no login; '
'see operator_entries.';
