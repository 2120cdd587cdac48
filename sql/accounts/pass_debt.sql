create function credits.pass_debt(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  heir uuid := credits.successor(account_id);
  owed bigint;
  entry public.credit_transactions;
begin
  if heir is null then
    return;
  end if;
  -- What claw_back takes at most; more than that follows with the next debt.
  owed := least(-(credits.lock_account(account_id)).balance, 1000000000000);
  if owed > 0 then
    entry := credits.post_entry(account_id, 'grant', owed, metadata => jsonb_build_object('debt_passed_to', heir));
    perform credits.add_lot(entry, owed, 'refund', null, null, cost_basis => 0);
    perform credits.pay_debt_from_new_credits(account_id);
    perform credits.claw_back(
      heir, owed,
      metadata => jsonb_build_object('debt_passed_from', account_id),
      cause => 'debt_taken_over',
      other_account_id => account_id
    );
  end if;
end
$$;

comment on function credits.pass_debt(uuid) is
'Moves what an account owes to its successor, if it has one: a grant here, a clawback there, so that it is owed once. '
'Locks the account, then the successor: nothing locks them the other way round.';
