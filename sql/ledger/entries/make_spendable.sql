create function credits.make_spendable(account_id uuid, required bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  account public.credit_accounts;
  worth record;
begin
  -- What comes with the user's first confirmed address, if it has not come yet.
  perform credits.open_account(a.user_id) from public.credit_accounts as a where a.id = make_spendable.account_id;
  select a.* into account
  from public.credit_accounts as a
  where a.id = make_spendable.account_id
  for no key update;
  -- Asked, not settled: who is refused must not have a settlement done for each call, and undone again.
  worth := credits.account_position(account);
  if account.frozen_at is not null then
    perform credits.fail(
      'PT403', 'The account is frozen.', jsonb_build_object('frozen_at', account.frozen_at), 'Ask the app''s support.'
    );
  elsif worth.available < required then
    perform credits.fail(
      'PT402', 'Not enough credits.',
      jsonb_build_object(
        'required', required,
        'available', worth.available,
        'shortfall', required - worth.available
      ),
      'Buy credits, or ask for less.'
    );
  elsif credits.is_due(account.next_expiry) then
    perform credits.lock_account(account.id);
  elsif account.last_entry - account.settled_through >= credits.max_unsettled() then
    perform credits.settle_account(account.id, batches => 1);
  end if;
end
$$;

comment on function credits.make_spendable(uuid, bigint) is
'What a spend or a hold calls when its UPDATE matched nothing: either settles what is due and returns, with the '
'account locked, for another try, or says why not: PT402 (details: required, available, shortfall, in credits) or '
'PT403.';
