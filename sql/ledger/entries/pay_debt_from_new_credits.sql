create function credits.pay_debt_from_new_credits(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select from public.credit_accounts as a
    where a.id = pay_debt_from_new_credits.account_id and a.debt_from is not null
  ) then
    perform credits.settle_account(account_id);
  end if;
end
$$;

comment on function credits.pay_debt_from_new_credits(uuid) is
'Pays from new credits what a clawback had left unpaid. The caller holds the account''s lock.';
