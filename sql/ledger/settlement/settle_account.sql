create function credits.settle_account(
  account_id uuid,
  usable_from timestamptz default null,
  preferred_lot bigint default null,
  batches integer default null
) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform credits.settle_accounts(array[account_id], usable_from, preferred_lot, batches);
end
$$;

comment on function credits.settle_account(uuid, timestamptz, bigint, integer) is
'credits.settle_accounts for one account.';
