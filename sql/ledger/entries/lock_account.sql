create function credits.lock_account(account_id uuid) returns public.credit_accounts
language plpgsql
set search_path = ''
as $$
declare
  account public.credit_accounts;
begin
  select * into account from public.credit_accounts as a where a.id = lock_account.account_id for no key update;
  -- Nothing pending, due or owed: settled already, perhaps by this very transaction.
  if
    account.unsettled_since is not null
    or account.debt_from is not null
    or credits.is_due(account.next_expiry, account.lapsed)
  then
    perform credits.settle_account(account_id);
    select * into account from public.credit_accounts as a where a.id = lock_account.account_id;
  end if;
  return account;
end
$$;

comment on function credits.lock_account(uuid) is
'Takes the account''s row lock until the transaction ends and settles the account. Everything that changes lots, and '
'every refusal of a spend, starts here.';
