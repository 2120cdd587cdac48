create function credits.wants_settling(
  account public.credit_accounts,
  moment timestamptz,
  settle_before timestamptz
) returns boolean
language sql
immutable
as $$
  select
    account.next_expiry <= moment
    or account.unsettled_since <= settle_before
    or account.last_entry - account.settled_through >= credits.settlement_batch();
$$;

comment on function credits.wants_settling(public.credit_accounts, timestamptz, timestamptz) is
'Whether maintenance settles the account: a lot or hold has expired, a ledger row is from settle_before '
'(credits.settle_before) or earlier, or a whole credits.settlement_batch waits. Without a SET clause it is planned as '
'part of its caller.';
