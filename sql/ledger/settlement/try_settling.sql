create function credits.try_settling(accounts uuid[]) returns integer
language plpgsql
set search_path = ''
as $$
declare
  half integer := cardinality(accounts) / 2;
begin
  if credits.attempt(
    'settlement', 'select to_jsonb(credits.settle_accounts($1, batches => 10))', accounts
  ) is not null then
    return cardinality(accounts);
  elsif half = 0 then
    return 0;
  end if;
  return credits.try_settling(accounts[:half]) + credits.try_settling(accounts[half + 1:]);
end
$$;

comment on function credits.try_settling(uuid[]) is
'Settles the accounts together, up to 10 batches of each; returns how many it settled. Where that fails, each half by '
'itself, and so on: one that cannot be settled is noted as a failure, and the others are settled. The caller holds the '
'accounts'' locks.';
