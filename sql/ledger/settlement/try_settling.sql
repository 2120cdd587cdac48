create function credits.try_settling(accounts uuid[]) returns integer
language plpgsql
set search_path = ''
as $$
declare
  half integer := cardinality(accounts) / 2;
begin
  begin
    perform credits.settle_accounts(accounts, batches => 20);
    return cardinality(accounts);
  exception
    when others then
      if half = 0 then
        perform credits.note_failure('settlement', sqlstate, sqlerrm, accounts[1]);
        return 0;
      end if;
  end;
  return credits.try_settling(accounts[:half]) + credits.try_settling(accounts[half + 1:]);
end
$$;

comment on function credits.try_settling(uuid[]) is
'Settles the accounts together, up to 20 batches of each; returns how many it settled. Where that fails, each half by '
'itself, and so on: one that cannot be settled is noted as a failure, and the others are settled. The caller holds the '
'accounts'' locks.';
