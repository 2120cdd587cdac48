create function credits.settle_account(
  account_id uuid,
  usable_from timestamptz default null,
  preferred_lot bigint default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  due boolean;
begin
  perform credits.allocate_pending(account_id, usable_from, preferred_lot);
  select a.lapsed > 0 or a.next_expiry <= credits.now() into due
  from public.credit_accounts as a
  where a.id = settle_account.account_id;
  if due then
    perform credits.expire_due(account_id);
  end if;
  perform credits.seal_pending(account_id);
end
$$;

comment on function credits.settle_account(uuid, timestamptz, bigint) is
'Brings lots, expiry, daily usage and seals up to the newest ledger row, so that they are as if each spend had done it '
'at once. The caller holds the account''s lock. usable_from and preferred_lot: see credits.allocate_pending.';
