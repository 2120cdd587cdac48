-- A large ledger in a short time: :accounts accounts, of which the first :active have :rows_each spends each, by
-- plain INSERTs with triggers off. Balances, totals and settled_through are as the ledger's functions would leave
-- them; grants, lots, allocations and seals are left out, because nothing that is measured here reads them.
set session_replication_role = replica;

insert into auth.users (id, email)
select md5('user ' || n)::uuid, 'user' || n || '@example.com'
from generate_series(1, :accounts) as n;

insert into public.credit_accounts (user_id, balance, available, lifetime_granted, lifetime_spent)
select
  md5('user ' || n)::uuid,
  1000000000 - case when n <= :active then 3 * :rows_each else 0 end,
  1000000000 - case when n <= :active then 3 * :rows_each else 0 end,
  1000000000,
  case when n <= :active then 3 * :rows_each else 0 end
from generate_series(1, :accounts) as n;

create temporary table active_accounts as
select
  n,
  a.id
from generate_series(1, :active) as n
inner join public.credit_accounts as a on a.user_id = md5('user ' || n)::uuid;

-- Made again at the end, which is quicker than keeping it while the table fills.
alter table public.credit_transactions drop constraint credit_transactions_pkey;

-- One spend of each account, then the next of each: an account's rows lie far apart, as they do in use.
insert into public.credit_transactions (
  account_id, id, kind, amount, balance_after, operation, quantity, unit_price, price_version, actor, metadata, created_at
)
select
  a.id, r, 'spend', -3, 1000000000 - 3 * r, 'stable_diffusion', 1, 3, 1, 'authenticated', '{}',
  clock_timestamp() - (:rows_each - r) * interval '1 hour'
from generate_series(1, :rows_each) as r
cross join active_accounts as a
order by r, a.n;

alter table public.credit_transactions add constraint credit_transactions_pkey primary key (account_id, id);

update public.credit_accounts as a
set last_entry = :rows_each, settled_through = :rows_each
from active_accounts as t
where a.id = t.id;
