-- :stored events that were applied, a quarter of them purchases with their payment, of :accounts accounts: by plain
-- INSERTs with triggers off. Payloads are short: Postgres keeps long ones apart from the row.
set session_replication_role = replica;

insert into auth.users (id, email)
select md5('user ' || n)::uuid, 'user' || n || '@example.com'
from generate_series(1, :accounts) as n;

insert into public.credit_accounts (user_id) select md5('user ' || n)::uuid from generate_series(1, :accounts) as n;

insert into credits.stripe_events (id, type, api_version, status, payload)
select
  'evt_0' || lpad(n::text, 12, '0') || left(md5('event ' || n), 12), 'charge.succeeded', '2026-08-26.dahlia', 'applied',
  jsonb_build_object('object', 'event', 'id', n)
from generate_series(1, :stored) as n;

create temporary table numbered as
select
  a.id,
  row_number() over (order by a.id) - 1 as n
from public.credit_accounts as a;

insert into public.purchases (
  account_id, id, checkout_session_id, payment_intent_id, package, amount, currency, status, credits, credits_granted
)
select
  a.id, s / :accounts + 1, 'cs_test_' || md5('session ' || s), 'pi_0' || lpad(s::text, 12, '0'), 'starter', 499, 'usd',
  'paid', 50, 50
from generate_series(1, greatest(:stored / 4, 1)) as s
inner join numbered as a on a.n = s % :accounts;

insert into credits.stripe_objects (id, account_id, purchase_id)
select p.checkout_session_id, p.account_id, p.id from public.purchases as p;

insert into credits.stripe_payments (payment_intent_id, account_id, purchase_id)
select p.payment_intent_id, p.account_id, p.id from public.purchases as p;

-- The event that the measure tells again and again, each time with new ids.
create schema events;
create table events.template (text text not null);
create sequence events.numbers;
grant usage on schema events to service_role;
grant select on events.template to service_role;
grant usage on events.numbers to service_role;
