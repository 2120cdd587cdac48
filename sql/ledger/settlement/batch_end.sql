create function credits.batch_end(account_id uuid) returns bigint
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select a.settled_through + credits.settlement_batch()
    from public.credit_accounts as a
    where a.id = batch_end.account_id and a.last_entry - a.settled_through > credits.settlement_batch()
  );
end
$$;

comment on function credits.batch_end(uuid) is
'The last ledger row of the account''s next batch to settle, of credits.settlement_batch rows; null where all that is '
'unsettled is one batch.';
