create function credits.batch_end(account_id uuid) returns bigint
language plpgsql
stable
set search_path = ''
as $$
declare
  account record;
begin
  select a.settled_through, a.unsettled into account
  from public.credit_accounts as a
  where a.id = batch_end.account_id;
  if account.unsettled <= credits.settlement_batch() then
    return null;
  end if;
  return (
    select t.id from public.credit_transactions as t
    where t.account_id = batch_end.account_id and t.id > account.settled_through
    order by t.id
    limit 1 offset credits.settlement_batch() - 1
  );
end
$$;

comment on function credits.batch_end(uuid) is
'The last ledger row of the account''s next batch to settle, of credits.settlement_batch rows; null where all that is '
'unsettled is one batch.';
