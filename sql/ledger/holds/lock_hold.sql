create function credits.lock_hold(account_id uuid, hold_id uuid) returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  hold public.credit_holds;
  due boolean;
begin
  -- The account first, then its holds: the order in which everything here locks.
  select credits.is_due(a.next_expiry, a.lapsed) into due
  from public.credit_accounts as a
  inner join public.credit_holds as h on a.id = h.account_id
  where a.id = lock_hold.account_id and h.id = lock_hold.hold_id
  for no key update of a;
  if due then
    perform credits.lock_account(account_id);
  end if;
  select * into hold from public.credit_holds as h
  where h.account_id = lock_hold.account_id and h.id = lock_hold.hold_id;
  if not found then
    perform credits.fail(
      'PT404', 'The account has no such hold.', jsonb_build_object('account_id', account_id, 'hold_id', hold_id),
      'Check both ids.'
    );
  end if;
  return hold;
end
$$;

comment on function credits.lock_hold(uuid, uuid) is
'The hold as it is now, with its account locked until the transaction ends and settled if anything was due. PT404.';
