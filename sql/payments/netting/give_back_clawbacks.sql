create function credits.give_back_clawbacks(
  account_id uuid,
  cause credits.clawback_cause,
  purchase_id bigint,
  amount bigint,
  metadata jsonb,
  grant_transaction_id bigint default null
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
    from credits.clawbacks as c
    inner join public.credit_transactions as t on c.account_id = t.account_id and c.transaction_id = t.id
    where
      c.account_id = give_back_clawbacks.account_id
      and c.cause = give_back_clawbacks.cause
      and c.purchase_id = give_back_clawbacks.purchase_id
      and (grant_transaction_id is null or t.related_id = grant_transaction_id)
    order by t.id desc
  loop
    exit when still_to_give = 0;
    continue when taken.left_to_give = 0;
    perform credits.give_back(account_id, taken.id, least(still_to_give, taken.left_to_give), metadata);
    still_to_give := still_to_give - least(still_to_give, taken.left_to_give);
  end loop;
  if still_to_give > 0 then
    raise 'purchase % (%) has % credits fewer to give back than it says', purchase_id, cause, still_to_give;
  end if;
end
$$;

comment on function credits.give_back_clawbacks is
'Gives back amount credits of what was taken for that cause and purchase, the latest first; of one grant where '
'grant_transaction_id names it. The caller holds the account''s lock.';
