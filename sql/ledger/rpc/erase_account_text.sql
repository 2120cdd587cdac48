create function public.erase_account_text(account_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  answer jsonb;
begin
  if not exists (select from public.credit_accounts as a where a.id = erase_account_text.account_id) then
    perform credits.fail(
      'PT404', 'There is no such account.', jsonb_build_object('account_id', account_id), 'Check the account id.'
    );
  end if;
  answer := jsonb_build_object('transactions', credits.erase_texts(account_id));
  answer := answer || jsonb_build_object('holds', credits.erase_hold_texts(account_id));
  return answer || jsonb_build_object('open', (
    select count(*)
    from public.credit_holds as h
    left join public.generation_jobs as j on h.account_id = j.account_id and h.id = j.hold_id
    where
      h.account_id = erase_account_text.account_id
      and (h.status = 'held' or j.id is not null and j.finished_at is null)
  ));
end
$$;

comment on function public.erase_account_text(uuid) is
'Operator: erases what callers wrote in the account''s ledger rows and holds, for good, as erase_transaction_text '
'does; for an account whose user was deleted, too. Returns in how many: {transactions, holds, open}; open: holds and '
'generations under way, which keep their texts until they end. Call it again then. Errors: PT404 no such account.';

grant execute on function public.erase_account_text(uuid) to service_role;
