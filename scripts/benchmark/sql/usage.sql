-- One account with :entries spends of four operations over a year, of which the newest 500 are not settled. Lots and
-- seals are left out: nothing that is measured here reads them.
set session_replication_role = replica;

insert into auth.users (id, email) values (md5('user 1')::uuid, 'user1@example.com');

insert into public.credit_accounts (
  user_id, balance, available, lifetime_granted, lifetime_spent, last_entry, settled_through
)
values (
  md5('user 1')::uuid, 1000000000 - 3 * :entries, 1000000000 - 3 * :entries, 1000000000, 3 * :entries, :entries,
  :entries - 500
);

insert into public.credit_transactions (
  account_id, id, kind, amount, balance_after, operation, quantity, unit_price, price_version, actor, metadata,
  created_at
)
select
  a.id, r, 'spend', -3, 1000000000 - 3 * r, t.operation, 1, 3, t.version, 'authenticated', '{}',
  clock_timestamp() - (:entries - r) * interval '365 days' / :entries
from public.credit_accounts as a
cross join generate_series(1, :entries) as r
inner join (
  select
    row_number() over (order by p.id) as place,
    p.operation,
    p.version
  from public.pricing_tiers as p
) as t on t.place = 1 + r % 4
order by r;

insert into credits.usage_days (
  account_id, day, price_version, transactions, quantity, spent, refunded, refunded_of
)
select a.id, u.*
from public.credit_accounts as a
cross join lateral credits.usage_of(a.id, 'UTC', 0, a.settled_through) as u;
