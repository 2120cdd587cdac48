create function credits.is_due(next_expiry timestamptz, lapsed bigint default 0) returns boolean
language sql
volatile
as $$
  select coalesce(lapsed > 0 or next_expiry <= credits.now(), false);
$$;

comment on function credits.is_due(timestamptz, bigint) is
'Whether time has something to do in an account with this next_expiry: a lot or a hold of it has expired. With its '
'lapsed also whether credits may go that only holds kept. The one place that says so; without a SET clause it is '
'planned as part of its caller.';

-- Evaluated as the reader in the policy of credit_accounts.
grant execute on function credits.is_due(timestamptz, bigint) to authenticated;
