create function credits.return_debt(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  heir uuid := credits.successor(account_id);
  spare bigint;
  taken public.credit_transactions;
  part bigint;
begin
  if heir is null then
    return;
  end if;
  spare := (credits.lock_account(account_id)).available;
  for taken in
    select t.*
    from credits.clawbacks as c
    inner join public.credit_transactions as t on c.account_id = t.account_id and c.transaction_id = t.id
    where c.account_id = heir and c.cause = 'debt_taken_over' and c.other_account_id = return_debt.account_id
    order by t.id
  loop
    part := least(spare, credits.left_to_refund(taken));
    if part > 0 then
      perform credits.claw_back(
        account_id, part,
        metadata => jsonb_build_object('debt_returned_to', heir),
        cause => 'debt_handed_back',
        other_account_id => heir
      );
      perform credits.give_back(heir, taken.id, part, jsonb_build_object('debt_returned_from', account_id));
      spare := spare - part;
    end if;
  end loop;
end
$$;

comment on function credits.return_debt(uuid) is
'When a deleted user''s account gets credits back, because a dispute was won, say: gives them to the successor, as far '
'as it took over debt from this account. The caller holds the account''s lock.';
