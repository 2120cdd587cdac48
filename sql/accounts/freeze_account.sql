create function public.freeze_account(user_id uuid, reason text) returns public.credit_accounts
language plpgsql
security definer
set search_path = ''
as $$
declare
  account_id uuid := credits.open_account(freeze_account.user_id);
  account public.credit_accounts;
begin
  if coalesce(btrim(reason), '') = '' then
    perform credits.fail('PT400', 'A freeze needs a reason.', '{}', 'Send reason as text.');
  end if;
  -- credits.make_spendable refuses spends and holds of it, prepare_checkout its checkouts.
  update public.credit_accounts as a
  set
    frozen_at = coalesce(a.frozen_at, credits.now()),
    frozen_by = 'operator',
    frozen_reason = reason,
    updated_at = credits.now()
  where a.id = account_id
  returning a.* into account;
  return account;
end
$$;

comment on function public.freeze_account(uuid, text) is
'Operator: stops the user''s spends and holds (PT403) until unfreeze_account. Grants, refunds and captures of '
'earlier holds go on. Of one that is frozen already it changes the reason, and the cause: no dispute that is won '
'unfreezes it then. Errors: PT400 no reason, PT404 no such user.';

grant execute on function public.freeze_account(uuid, text) to service_role;
