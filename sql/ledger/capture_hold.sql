create function public.capture_hold(
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
  cost bigint;
  account public.credit_accounts;
  entry public.credit_transactions;
begin
  perform credits.check_metadata(metadata);
  hold := credits.lock_hold(hold_id);
  used := coalesce(quantity, hold.quantity);

  if hold.status = 'captured' then
    select * into entry from public.credit_transactions as t where t.id = hold.transaction_id;
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
  cost := ceil(hold.unit_price * used);

  update public.credit_accounts as a
  set
    balance = a.balance - cost,
    held = a.held - hold.amount,
    lifetime_spent = a.lifetime_spent + cost,
    available = credits.available(a.balance - cost, a.held - hold.amount),
    unsettled_since = coalesce(a.unsettled_since, credits.now()),
    -- credits.lock_hold has found the moment to be before the next expiry.
    updated_at = least(credits.now(), a.next_expiry - interval '1 microsecond')
  where a.id = hold.account_id
  returning a.* into account;

  insert into public.credit_transactions (
    account_id, kind, amount, balance_after, operation, quantity, unit_price, price_version, hold_id, actor, metadata,
    created_at
  )
  values (
    hold.account_id, 'capture', -cost, account.balance, hold.operation, used, hold.unit_price, hold.price_version,
    hold.id, coalesce(auth.role(), session_user), capture_hold.metadata, account.updated_at
  )
  returning * into entry;

  update public.credit_holds as h
  set status = 'captured', transaction_id = entry.id, closed_at = account.updated_at
  where h.id = hold.id;

  -- Credits that had expired under holds: this hold's go first, and what no hold covers any more is written off.
  if account.lapsed > 0 then
    perform credits.settle_account(hold.account_id, usable_from => hold.created_at);
  end if;
  return entry;
end
$$;

comment on function public.capture_hold(uuid, integer, jsonb) is
'Operator: charges quantity units (default: all) of what a hold reserved, at its pinned price; the rest is free again. '
'Returns the ledger row; a repeat returns the same row. Errors: PT400 quantity, PT404 no such hold, PT409 released, '
'expired or captured with another quantity.';

grant execute on function public.capture_hold(uuid, integer, jsonb) to service_role;
