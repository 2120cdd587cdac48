create function credits.lock_hold(hold_id uuid) returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  hold public.credit_holds;
  account record;
begin
  -- The account first, then its holds: the order in which everything here locks.
  select a.id, a.lapsed > 0 or a.next_expiry <= credits.now() as due into account
  from public.credit_accounts as a
  inner join public.credit_holds as h on a.id = h.account_id
  where h.id = lock_hold.hold_id
  for no key update of a;
  if account.due then
    perform credits.lock_account(account.id);
  end if;
  select * into hold from public.credit_holds as h where h.id = lock_hold.hold_id;
  if not found then
    perform credits.fail('PT404', 'There is no such hold.', jsonb_build_object('hold_id', hold_id), 'Check the hold id.');
  end if;
  return hold;
end
$$;

comment on function credits.lock_hold(uuid) is
'The hold as it is now, with its account locked until the transaction ends and settled if anything was due. PT404.';
