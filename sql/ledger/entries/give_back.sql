create function credits.give_back(account_id uuid, clawback_id bigint, amount bigint, metadata jsonb default '{}')
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  taken public.credit_transactions;
  left_to_give bigint;
  entry public.credit_transactions;
begin
  select * into taken from public.credit_transactions as t
  where t.account_id = give_back.account_id and t.id = clawback_id and t.kind = 'clawback';
  perform credits.lock_account(account_id);
  left_to_give := credits.left_to_refund(taken);
  if not coalesce(amount between 1 and left_to_give, false) then
    perform credits.fail(
      'PT400', format('amount must be from 1 to the %s credits that are left to give back.', left_to_give),
      jsonb_build_object('account_id', account_id, 'transaction_id', clawback_id, 'amount', amount),
      'Name a clawback of the account.'
    );
  end if;
  entry := credits.post_entry(account_id, 'refund', amount, related_id => taken.id, metadata => metadata);
  perform credits.return_to_lots(entry);
  return entry;
end
$$;

comment on function credits.give_back(uuid, bigint, bigint, jsonb) is
'Internal: undoes amount credits of a clawback, because its refund failed, its dispute was won, or a refund comes '
'before a downgrade; returns the ledger row, a refund. They go back to the lots they came from, as those of any '
'refund. PT400 beyond what is left of it.';
