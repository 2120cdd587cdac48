create function credits.release_subscription_debts(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  part record;
begin
  if exists (
    select from credits.subscription_debts as d where d.account_id = release_subscription_debts.account_id
  ) then
    for part in
      select t.* from credits.debt_takings(account_id) as t where not t.is_final order by t.debt_id desc, t.grant_id desc
    loop
      perform credits.give_back_clawbacks(
        release_subscription_debts.account_id, 'downgrade', part.debt_id, part.taken,
        jsonb_build_object('downgrade', part.debt_id), part.grant_id
      );
    end loop;
  end if;
end
$$;

comment on function credits.release_subscription_debts(uuid) is
'Gives back to lots that are still alive what downgrades took of them, so that a refund or a dispute comes first: it '
'takes for certain, a downgrade only what is unspent. credits.collect_subscription_debts follows. The caller holds '
'the account''s lock.';
