create function credits.release(hold public.credit_holds, reason text) returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  lapsed bigint;
begin
  update public.credit_accounts as a
  set
    held = a.held - hold.amount,
    available = credits.available(a.balance, a.held - hold.amount),
    updated_at = credits.now()
  where a.id = hold.account_id
  returning a.lapsed into lapsed;

  update public.credit_holds as h
  set status = 'released', release_reason = reason, closed_at = credits.now()
  where h.account_id = hold.account_id and h.id = hold.id
  returning h.* into hold;

  if lapsed > 0 then
    perform credits.settle_account(hold.account_id);
  end if;
  return hold;
end
$$;

comment on function credits.release(public.credit_holds, text) is
'Gives back everything that an open hold reserved; returns the hold. The caller has it from credits.lock_hold, and '
'checked that it is held.';
