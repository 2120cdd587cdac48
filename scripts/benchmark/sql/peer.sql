-- The bare minimum that a spend can be: one conditional UPDATE and one INSERT in PL/pgSQL, no policy, no rule. Its
-- ledger has the columns of credit_transactions and one index, its primary key.
create schema peer;

create table peer.accounts (
  id uuid primary key,
  balance bigint not null
)
with (fillfactor = 50);

create table peer.ledger (
  id bigint generated always as identity primary key,
  account_id uuid not null,
  kind public.transaction_kind not null,
  amount bigint not null,
  balance_after bigint not null,
  operation text,
  quantity integer,
  unit_price numeric,
  price_version bigint,
  hold_id uuid,
  related_id bigint,
  actor text not null,
  idempotency_key text,
  metadata jsonb not null,
  created_at timestamptz not null
);

-- The same with a key: one unique index more.
create table peer.keyed_ledger (like peer.ledger including all);
create unique index keyed_ledger_key on peer.keyed_ledger (account_id, idempotency_key);

-- In public, where PostgREST finds it.
create function public.bench_consume(
  account uuid,
  cost bigint,
  operation text,
  quantity integer,
  metadata jsonb default '{}'
) returns peer.ledger
language plpgsql
as $$
declare
  after bigint;
  entry peer.ledger;
begin
  update peer.accounts as a set balance = a.balance - cost
  where a.id = account and a.balance >= cost
  returning a.balance into after;
  if not found then
    raise exception 'insufficient';
  end if;
  insert into peer.ledger (
    account_id, kind, amount, balance_after, operation, quantity, unit_price, price_version, actor, metadata, created_at
  )
  values (account, 'spend', -cost, after, operation, quantity, 3, 6, 'authenticated', metadata, now())
  returning * into entry;
  return entry;
end
$$;

create function peer.consume_with_key(
  account uuid,
  cost bigint,
  operation text,
  quantity integer,
  idempotency_key text,
  metadata jsonb default '{}'
) returns peer.keyed_ledger
language plpgsql
as $$
declare
  after bigint;
  entry peer.keyed_ledger;
begin
  update peer.accounts as a set balance = a.balance - cost
  where a.id = account and a.balance >= cost
  returning a.balance into after;
  if not found then
    raise exception 'insufficient';
  end if;
  insert into peer.keyed_ledger (
    account_id, kind, amount, balance_after, operation, quantity, unit_price, price_version, actor, idempotency_key,
    metadata, created_at
  )
  values (
    account, 'spend', -cost, after, operation, quantity, 3, 6, 'authenticated', idempotency_key, metadata, now()
  )
  returning * into entry;
  return entry;
end
$$;

-- What PostgREST serves besides: nothing at all.
create function public.bench_nothing() returns integer
language plpgsql
as $$
begin
  return 0;
end
$$;

grant usage on schema peer to authenticated;
grant all on all tables in schema peer to authenticated;
grant execute on all functions in schema peer to authenticated;
grant execute on function public.bench_consume(uuid, bigint, text, integer, jsonb), public.bench_nothing() to authenticated;
