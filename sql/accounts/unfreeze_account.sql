create function public.unfreeze_account(user_id uuid) returns public.credit_accounts
language plpgsql
security definer
set search_path = ''
as $$
declare
  account_id uuid := credits.open_account(unfreeze_account.user_id);
  account public.credit_accounts;
begin
  update public.credit_accounts as a
  set
    frozen_at = null,
    frozen_by = null,
    frozen_reason = null,
    updated_at = credits.now()
  where a.id = account_id
  returning a.* into account;
  return account;
end
$$;

comment on function public.unfreeze_account(uuid) is
'Operator: lets a frozen account spend again; nothing happens to one that is not frozen. Errors: PT404 no such user.';

grant execute on function public.unfreeze_account(uuid) to service_role;
