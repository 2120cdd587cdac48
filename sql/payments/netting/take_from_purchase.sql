create function credits.take_from_purchase(
  account_id uuid,
  purchase_id bigint,
  amount bigint,
  metadata jsonb
) returns void
language plpgsql
set search_path = ''
as $$
declare
  still_to_take bigint := amount;
  lot record;
  part bigint;
begin
  for lot in
    select
      g.transaction_id,
      coalesce(sum(l.remaining), 0) as remaining,
      row_number() over (order by max(l.expires_at) desc nulls first, g.transaction_id) = 1 as is_last
    from credits.purchase_grants as g
    left join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
    where g.account_id = take_from_purchase.account_id and g.purchase_id = take_from_purchase.purchase_id
    group by g.transaction_id
    order by max(l.expires_at) nulls last, g.transaction_id desc
  loop
    part := case when lot.is_last then still_to_take else least(still_to_take, lot.remaining) end;
    if part > 0 then
      perform credits.claw_back(
        account_id, part, lot.transaction_id,
        metadata => metadata,
        cause => 'money_back',
        purchase_id => purchase_id
      );
      still_to_take := still_to_take - part;
    end if;
  end loop;
end
$$;

comment on function credits.take_from_purchase(uuid, bigint, bigint, jsonb) is
'Claws back amount credits, from what expires first of a purchase''s grants; what is no longer in their lots, from the '
'account''s other credits and below zero. The caller holds the account''s lock.';
