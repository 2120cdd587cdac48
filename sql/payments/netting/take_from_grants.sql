create function credits.take_from_grants(
  account_id uuid,
  amount bigint,
  grant_ids bigint[],
  metadata jsonb,
  beyond boolean
) returns bigint
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
    from unnest(grant_ids) as g (transaction_id)
    left join credits.credit_grants as l
      on l.account_id = take_from_grants.account_id and g.transaction_id = l.transaction_id
    group by g.transaction_id
    order by max(l.expires_at) nulls last, g.transaction_id desc
  loop
    part := case when beyond and lot.is_last then still_to_take else least(still_to_take, lot.remaining) end;
    if part > 0 then
      perform credits.claw_back(account_id, part, lot.transaction_id, metadata => metadata);
      still_to_take := still_to_take - part;
    end if;
  end loop;
  return amount - still_to_take;
end
$$;

comment on function credits.take_from_grants(uuid, bigint, bigint[], jsonb, boolean) is
'Claws back up to amount credits, from what expires first of these grants; returns how many. beyond: also what is '
'no longer in their lots, from the account''s other credits and below zero. The caller holds the account''s lock.';
