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
    select t.* from public.credit_transactions as t
    where t.account_id = heir and t.kind = 'clawback' and t.metadata ->> 'debt_passed_from' = return_debt.account_id::text
    order by t.id
  loop
    part := least(spare, credits.left_to_refund(taken));
    if part > 0 then
      perform credits.claw_back(account_id, part, metadata => jsonb_build_object('debt_returned_to', heir));
      perform credits.give_back(heir, taken.id, part, jsonb_build_object('debt_returned_from', account_id));
      spare := spare - part;
    end if;
  end loop;
end
$$;

comment on function credits.return_debt(uuid) is
'When a deleted user''s account gets credits back, because a dispute was won, say: gives them to the successor, as far '
'as it took over debt from this account. The caller holds the account''s lock.';
