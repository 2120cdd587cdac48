create function credits.repeated_spend(
  entry public.credit_transactions,
  operation text,
  quantity integer,
  metadata jsonb
) returns public.credit_transactions
language plpgsql
stable
set search_path = ''
as $$
begin
  perform credits.check_repeat(
    entry.idempotency_key,
    entry.kind = 'spend' and entry.operation = repeated_spend.operation and entry.quantity = repeated_spend.quantity
    and entry.metadata = repeated_spend.metadata
  );
  return entry;
end
$$;

comment on function credits.repeated_spend(public.credit_transactions, text, integer, jsonb) is
'The ledger row that has the key of a spend, if it is of the same request; PT409 otherwise. consume_credits looks for '
'the key before it charges, and once more under the account''s lock (credits.key_is_new).';
