create function credits.end_lot(account_id uuid, lot_id bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  lot credits.credit_grants;
  account public.credit_accounts;
  gone bigint;
begin
  perform credits.settle_account(account_id);
  select * into lot from credits.credit_grants as g where g.account_id = end_lot.account_id and g.id = lot_id;
  select * into account from public.credit_accounts as a where a.id = end_lot.account_id;
  gone := greatest(0, lot.remaining - account.held);
  if gone > 0 then
    perform credits.write_off(account_id, lot.id, gone, credits.now(), '{"ended_early": true}');
  end if;
  if lot.remaining = gone then
    update credits.credit_grants as g
    set expires_at = least(g.expires_at, greatest(credits.now(), g.created_at + interval '1 microsecond'))
    where g.account_id = lot.account_id and g.id = lot.id;
  end if;
  update public.credit_accounts as a set next_expiry = credits.next_expiry(a.id, credits.now())
  where a.id = lot.account_id;
  perform credits.settle_account(account_id);
end
$$;

comment on function credits.end_lot(uuid, bigint) is
'Lets a lot expire now, before its time, which its expiry row says (ended_early). As much as open holds have set aside '
'stays until the lot''s own expiry. The caller holds the account''s lock.';
