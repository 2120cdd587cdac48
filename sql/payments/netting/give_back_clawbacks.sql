create function credits.give_back_clawbacks(
  account_id uuid,
  grant_ids bigint[],
  cause jsonb,
  amount bigint,
  metadata jsonb
) returns void
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
      t.account_id = give_back_clawbacks.account_id
      and t.related_id = any(grant_ids)
      and t.kind = 'clawback'
      and t.metadata @> cause
    order by t.id desc
  loop
    exit when still_to_give = 0;
    continue when taken.left_to_give = 0;
    perform credits.give_back(account_id, taken.id, least(still_to_give, taken.left_to_give), metadata);
    still_to_give := still_to_give - least(still_to_give, taken.left_to_give);
  end loop;
  if still_to_give > 0 then
    raise '% has % credits fewer to give back than it says', cause, still_to_give;
  end if;
end
$$;

comment on function credits.give_back_clawbacks(uuid, bigint[], jsonb, bigint, jsonb) is
'Gives back amount credits of what was taken of these grants, the latest first. cause: what the clawback''s metadata '
'has, {"purchase": id} for the refunds and disputes of a purchase, {"downgrade": id} for a downgrade. The caller holds '
'the account''s lock.';
