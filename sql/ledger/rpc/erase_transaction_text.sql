create function public.erase_transaction_text(account_id uuid, transaction_id bigint)
returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
  entry public.credit_transactions;
begin
  perform credits.erase_texts(account_id, transaction_id);
  perform credits.erase_hold_texts(account_id, transaction_id);
  select * into entry from public.credit_transactions as t
  where t.account_id = erase_transaction_text.account_id and t.id = erase_transaction_text.transaction_id;
  if not found then
    perform credits.fail(
      'PT404', 'The account has no such transaction.',
      jsonb_build_object('account_id', account_id, 'transaction_id', transaction_id), 'Check both ids.'
    );
  end if;
  return entry;
end
$$;

comment on function public.erase_transaction_text(uuid, bigint) is
'Operator: erases what a caller wrote in a ledger row of the account, for good: idempotency_key and metadata, also of '
'the hold that a capture used. Returns the row. Everything else of it stays, and verify_ledger finds nothing missing. '
'The key may be used again afterwards, and is a new request then. What the ledger wrote itself (keys that start with '
'"sys:", the causes of clawbacks) names nobody and stays. Errors: PT404 the account has no such transaction.';

grant execute on function public.erase_transaction_text(uuid, bigint) to service_role;
