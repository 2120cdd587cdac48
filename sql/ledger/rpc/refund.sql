create function public.refund(
  account_id uuid,
  transaction_id bigint,
  amount bigint default null,
  reason text default null,
  idempotency_key text default null
) returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
  spent public.credit_transactions;
  said jsonb := jsonb_strip_nulls(jsonb_build_object('reason', reason));
  refundable bigint;
  entry public.credit_transactions;
begin
  select * into spent from public.credit_transactions as t
  where t.account_id = refund.account_id and t.id = refund.transaction_id;
  if not found then
    perform credits.fail(
      'PT404', 'The account has no such transaction.',
      jsonb_build_object('account_id', account_id, 'transaction_id', transaction_id), 'Check both ids.'
    );
  elsif spent.kind not in ('spend', 'capture') then
    perform credits.fail(
      'PT409', format('A %s cannot be refunded.', spent.kind),
      jsonb_build_object('transaction_id', transaction_id, 'kind', spent.kind), 'Only spends and captures can.'
    );
  elsif char_length(reason) > 500 then
    perform credits.fail('PT400', 'reason has more than 500 characters.', '{}', 'Say it shorter.');
  end if;

  perform credits.check_key(idempotency_key);
  entry := credits.replayed_entry(account_id, idempotency_key);
  if entry.id is not null then
    perform credits.check_repeat(
      idempotency_key,
      entry.kind = 'refund' and entry.related_id = spent.id and entry.metadata = said
      -- Without an amount it was all that was left then.
      and entry.amount = coalesce(amount, -spent.amount - (
        select coalesce(sum(t.amount), 0) from public.credit_transactions as t
        where t.account_id = spent.account_id and t.related_id = spent.id and t.kind = 'refund' and t.id < entry.id
      ))
    );
    return entry;
  end if;

  perform credits.lock_account(spent.account_id);
  refundable := credits.left_to_refund(spent);
  if refundable = 0 then
    perform credits.fail(
      'PT409', 'The transaction is refunded already.',
      jsonb_build_object('transaction_id', spent.id, 'spent', -spent.amount, 'refundable', 0), 'There is nothing left to refund.'
    );
  elsif coalesce(amount, refundable) not between 1 and refundable then
    perform credits.fail(
      'PT400', format('amount must be from 1 to the %s credits that are left to refund.', refundable),
      jsonb_build_object('transaction_id', spent.id, 'amount', amount, 'spent', -spent.amount, 'refundable', refundable),
      'Leave amount out to refund all that is left.'
    );
  end if;

  entry := credits.post_entry(
    spent.account_id, 'refund', coalesce(amount, refundable),
    related_id => spent.id,
    operation => spent.operation,
    idempotency_key => idempotency_key,
    metadata => said
  );
  perform credits.return_to_lots(entry);
  return entry;
end
$$;

comment on function public.refund(uuid, bigint, bigint, text, text) is
'Operator: gives back amount credits (default: all that is left) of a spend or a capture of the account; returns the '
'ledger row. They go back to the lots they came from; where a lot has expired since, to a new lot that lives for '
'billing_settings.refund_grace. Errors: PT400 amount, PT404 the account has no such transaction, PT409 nothing left, '
'not a spend, or key used for another request.';

grant execute on function public.refund(uuid, bigint, bigint, text, text) to service_role;
