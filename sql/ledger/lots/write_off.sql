create function credits.write_off(
  account_id uuid,
  lot_id bigint,
  amount bigint,
  moment timestamptz,
  metadata jsonb default '{}'
) returns void
language plpgsql
set search_path = ''
as $$
declare
  lot credits.credit_grants;
  entry public.credit_transactions;
begin
  update credits.credit_grants as g set remaining = g.remaining - write_off.amount
  where g.account_id = write_off.account_id and g.id = lot_id
  returning * into lot;
  entry := credits.post_entry(
    account_id, 'expiry', -amount,
    related_id => lot.transaction_id, metadata => metadata, actor => 'system', moment => moment
  );
  insert into credits.lot_payments (account_id, grant_id, first_id, last_id, first_amount, last_amount, number)
  select
    write_off.account_id, lot_id, entry.id, entry.id, write_off.amount, write_off.amount,
    coalesce(max(p.number), 0) + 1
  from credits.lot_payments as p
  where p.account_id = write_off.account_id;
end
$$;

comment on function credits.write_off is
'Lets amount credits of a lot expire: the ledger row, and that this lot paid for it. The caller holds the account''s '
'lock and has settled what was pending.';
