create function credits.settle_account(
  account_id uuid,
  usable_from timestamptz default null,
  preferred_lot bigint default null,
  batches integer default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  through bigint;
  due boolean;
begin
  loop
    through := credits.batch_end(account_id);
    perform credits.allocate_pending(account_id, through, usable_from, preferred_lot);
    exit when through is null;
    perform credits.seal_pending(account_id, through);
    batches := batches - 1;
    if batches = 0 then
      return;
    end if;
  end loop;

  select a.lapsed > 0 or a.next_expiry <= credits.now() into due
  from public.credit_accounts as a
  where a.id = settle_account.account_id;
  if due then
    perform credits.expire_due(account_id);
  end if;

  loop
    -- Only expiries can have made it more than a batch.
    through := case when due then credits.batch_end(account_id) end;
    perform credits.seal_pending(account_id, through);
    exit when through is null;
  end loop;
end
$$;

comment on function credits.settle_account(uuid, timestamptz, bigint, integer) is
'Brings lots, expiry, daily usage and seals up to the newest ledger row, so that they are as if each spend had done it '
'at once. In batches of credits.settlement_batch rows: however much is pending, it takes little memory. batches: after '
'so many it stops, with what came first settled and what is due still to expire; null for all. The caller holds the '
'account''s lock. usable_from and preferred_lot: see credits.allocate_pending.';
