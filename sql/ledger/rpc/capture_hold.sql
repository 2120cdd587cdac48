create function public.capture_hold(
  account_id uuid,
  hold_id uuid,
  quantity integer default null,
  metadata jsonb default '{}'
) returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
  hold public.credit_holds;
  used integer;
  entry public.credit_transactions;
begin
  perform credits.check_metadata(metadata);
  hold := credits.lock_hold(account_id, hold_id);
  used := coalesce(quantity, hold.quantity);

  if hold.status = 'captured' then
    select * into entry from public.credit_transactions as t
    where t.account_id = hold.account_id and t.id = hold.transaction_id;
    if entry.quantity = used then
      return entry;
    end if;
    perform credits.fail(
      'PT409', 'The hold was captured with another quantity.',
      jsonb_build_object('hold_id', hold.id, 'captured', entry.quantity, 'quantity', used), 'A hold is captured once.'
    );
  elsif hold.status <> 'held' then
    perform credits.fail(
      'PT409', format('The hold was %s; it cannot be captured.', hold.status),
      jsonb_build_object('hold_id', hold.id, 'status', hold.status, 'closed_at', hold.closed_at), 'Make a new hold.'
    );
  elsif used not between 1 and hold.quantity then
    perform credits.fail(
      'PT400', format('quantity must be from 1 to the %s that are held.', hold.quantity),
      jsonb_build_object('quantity', used, 'held', hold.quantity), 'To take nothing, call release_hold.'
    );
  end if;
  return credits.capture(hold, used, metadata);
end
$$;

comment on function public.capture_hold(uuid, uuid, integer, jsonb) is
'Operator: charges quantity units (default: all) of what a hold of the account reserved, at its pinned price; the rest '
'is free again. Returns the ledger row; a repeat returns the same row. Errors: PT400 quantity, PT404 the account has '
'no such hold, PT409 released, expired or captured with another quantity.';

grant execute on function public.capture_hold(uuid, uuid, integer, jsonb) to service_role;
