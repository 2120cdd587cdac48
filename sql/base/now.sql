create function credits.now() returns timestamptz
language sql
volatile
as $$
  select clock_timestamp();
$$;

comment on function credits.now() is
'The time that every rule of the ledger uses, UTC. The wall clock, not the transaction''s start: a session '
'that has been open for an hour must not spend a lot that expired meanwhile. Only its owner can replace it; '
'the tests do, in databases of their own. Every spend asks several times: without a SET clause it is planned as part '
'of its caller.';

-- Evaluated as the reader in policies and in views.
grant execute on function credits.now() to anon, authenticated, service_role, pricing_admin;
