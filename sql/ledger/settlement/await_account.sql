create function credits.await_account(account_id uuid) returns void
language plpgsql
set search_path = ''
set lock_timeout = '3s'
as $$
begin
  perform from public.credit_accounts as a where a.id = await_account.account_id for no key update;
end
$$;

comment on function credits.await_account(uuid) is
'Takes the account''s lock, for which it waits up to 3 seconds: longer than others of the maintenance may.';
