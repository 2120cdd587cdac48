create function credits.capture(
  hold public.credit_holds,
  quantity integer,
  metadata jsonb
) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  cost bigint := ceil(hold.unit_price * quantity);
  account public.credit_accounts;
  entry public.credit_transactions;
begin
  update public.credit_accounts as a
  set
    balance = a.balance - cost,
    held = a.held - hold.amount,
    lifetime_spent = a.lifetime_spent + cost,
    available = credits.available(a.balance - cost, a.held - hold.amount),
    last_entry = a.last_entry + 1,
    unsettled_since = coalesce(a.unsettled_since, credits.now()),
    -- credits.lock_hold has found the moment to be before the next expiry.
    updated_at = credits.entry_moment(a.next_expiry)
  where a.id = hold.account_id
  returning a.* into account;

  insert into public.credit_transactions (
    account_id, id, kind, amount, balance_after, operation, quantity, unit_price, price_version, hold_id, actor,
    metadata, created_at
  )
  values (
    account.id, account.last_entry, 'capture', -cost, account.balance, hold.operation, capture.quantity,
    hold.unit_price, hold.price_version, hold.id, credits.actor(), capture.metadata, account.updated_at
  )
  returning * into entry;
  perform credits.note_operator(entry);

  update public.credit_holds as h
  set status = 'captured', transaction_id = entry.id, closed_at = account.updated_at
  where h.account_id = hold.account_id and h.id = hold.id;

  -- Credits that had expired under holds: this hold's go first, and what no hold covers any more is written off.
  if account.lapsed > 0 then
    perform credits.settle_account(hold.account_id, usable_from => hold.created_at);
  elsif account.last_entry - account.settled_through >= credits.max_unsettled() then
    perform credits.settle_account(hold.account_id, batches => 1);
  end if;
  return entry;
end
$$;

comment on function credits.capture(public.credit_holds, integer, jsonb) is
'Charges quantity units of an open hold at its pinned price and frees the rest; returns the ledger row. The caller has '
'the hold from credits.lock_hold, and checked that it is held and has that many units.';
