create function credits.rebuild_usage(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  account public.credit_accounts;
begin
  account := credits.lock_account(rebuild_usage.account_id);
  delete from credits.usage_days as u where u.account_id = account.id;
  insert into credits.usage_days (
    account_id, day, price_version, transactions, quantity, spent, refunded, refunded_of
  )
  select account.id, u.*
  from credits.usage_of(account.id, credits.account_zone(account.id), 0, account.settled_through) as u;
end
$$;

comment on function credits.rebuild_usage(uuid) is
'Adds the account''s days up anew from its ledger, under its lock: after its time zone changed, or Postgres came to '
'know other rules of that zone, which verify_ledger tells.';
