-- :rows_each more spends of every account, not settled: what consume_credits leaves, in one statement each.
set session_replication_role = replica;

insert into public.credit_transactions (
  account_id, id, kind, amount, balance_after, operation, quantity, unit_price, price_version, actor, metadata, created_at
)
select
  a.id, a.last_entry + r, 'spend', -3, a.balance - 3 * r, 'stable_diffusion', 1, 3, 1, 'authenticated', '{}', clock_timestamp()
from generate_series(1, :rows_each) as r
cross join public.credit_accounts as a
order by r, a.id;

update public.credit_accounts as a
set
  balance = a.balance - 3 * :rows_each,
  available = a.available - 3 * :rows_each,
  lifetime_spent = a.lifetime_spent + 3 * :rows_each,
  last_entry = a.last_entry + :rows_each,
  unsettled_since = clock_timestamp(),
  updated_at = clock_timestamp();
