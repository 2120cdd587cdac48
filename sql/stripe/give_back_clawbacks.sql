create function credits.give_back_clawbacks(purchase public.purchases, amount bigint, metadata jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  still_to_give bigint := amount;
  taken record;
begin
  for taken in
    select t.id, credits.left_to_refund(t) as left_to_give
    from public.credit_transactions as t
    where
      t.related_id = any(purchase.grant_ids)
      and t.kind = 'clawback'
      and (t.metadata ->> 'purchase')::bigint = purchase.id
    order by t.id desc
  loop
    exit when still_to_give = 0;
    continue when taken.left_to_give = 0;
    perform credits.give_back(taken.id, least(still_to_give, taken.left_to_give), metadata);
    still_to_give := still_to_give - least(still_to_give, taken.left_to_give);
  end loop;
  if still_to_give > 0 then
    raise 'purchase % has % credits fewer to give back than it says', purchase.id, still_to_give;
  end if;
end
$$;

comment on function credits.give_back_clawbacks(public.purchases, bigint, jsonb) is
'Gives back amount credits of what refunds and disputes of this purchase took, the latest first. The caller holds the '
'account''s lock.';
