create function credits.lock_account(account_id uuid) returns public.credit_accounts
language plpgsql
set search_path = ''
as $$
declare
  account public.credit_accounts;
begin
  perform from public.credit_accounts as a where a.id = lock_account.account_id for no key update;
  perform credits.settle_account(account_id);
  select * into account from public.credit_accounts as a where a.id = lock_account.account_id;
  return account;
end
$$;

comment on function credits.lock_account(uuid) is
'Takes the account''s row lock until the transaction ends and settles the account. Everything that changes lots, and '
'every refusal of a spend, starts here.';
