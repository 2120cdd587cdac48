create function credits.end_lot(lot_id bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  lot credits.credit_grants;
  account public.credit_accounts;
  entry public.credit_transactions;
  gone bigint;
begin
  select * into lot from credits.credit_grants as g where g.id = lot_id;
  perform credits.settle_account(lot.account_id);
  select * into lot from credits.credit_grants as g where g.id = lot_id;
  select * into account from public.credit_accounts as a where a.id = lot.account_id;
  gone := greatest(0, lot.remaining - account.held);
  if gone > 0 then
    entry := credits.post_entry(
      lot.account_id, 'expiry', -gone, related_id => lot.transaction_id, actor => 'system', moment => credits.now()
    );
    insert into credits.credit_allocations (transaction_id, grant_id, amount) values (entry.id, lot.id, gone);
  end if;
  update credits.credit_grants as g
  set
    remaining = g.remaining - gone,
    expires_at = case
      when g.remaining > gone then g.expires_at
      else least(g.expires_at, greatest(credits.now(), g.created_at + interval '1 microsecond'))
    end
  where g.id = lot.id;
  update public.credit_accounts as a set next_expiry = credits.next_expiry(a.id, credits.now())
  where a.id = lot.account_id;
  perform credits.seal_pending(lot.account_id);
end
$$;

comment on function credits.end_lot(bigint) is
'Lets a lot expire now, before its time. As much as open holds have set aside stays until the lot''s own expiry. The '
'caller holds the account''s lock.';
