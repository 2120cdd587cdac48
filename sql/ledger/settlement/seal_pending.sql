create function credits.seal_pending(account_id uuid, through_id bigint default null) returns void
language plpgsql
set search_path = ''
as $$
declare
  settled bigint;
  last_id bigint;
  batch_size integer;
  digests bytea;
  through bigint := coalesce(through_id, 9223372036854775807);
begin
  select a.settled_through into settled from public.credit_accounts as a where a.id = seal_pending.account_id;

  -- A digest a row, not the rows' text: a batch of large ones would not fit into one value.
  select count(*), max(t.id), string_agg(credits.entry_digest(t), '' order by t.id)
  into batch_size, last_id, digests
  from public.credit_transactions as t
  where t.account_id = seal_pending.account_id and t.id > settled and t.id <= through;
  if batch_size = 0 then
    -- Numbers that somebody took the rows of would keep spends settling for ever; verify_ledger tells of them.
    select coalesce(min(t.id) - 1, max(a.last_entry)) into last_id
    from public.credit_accounts as a
    left join public.credit_transactions as t on a.id = t.account_id and t.id > through
    where a.id = seal_pending.account_id;
    update public.credit_accounts as a
    set settled_through = last_id, unsettled_since = case when a.last_entry > last_id then a.unsettled_since end
    where a.id = seal_pending.account_id and (a.settled_through <> last_id or a.unsettled_since is not null);
    return;
  end if;

  insert into credits.ledger_seals (account_id, number, through_id, entries, hash, sealed_at)
  select
    seal_pending.account_id,
    coalesce(max(s.number), 0) + 1,
    last_id,
    batch_size,
    credits.seal_hash((array_agg(s.hash))[1], digests),
    credits.now()
  from (
    select p.number, p.hash from credits.ledger_seals as p
    where p.account_id = seal_pending.account_id
    order by p.number desc
    limit 1
  ) as s;

  insert into credits.daily_usage as u (account_id, day, operation, transactions, quantity, spent, refunded)
  select
    t.account_id,
    (t.created_at at time zone 'UTC')::date,
    t.operation,
    count(*) filter (where t.amount < 0),
    coalesce(sum(t.quantity) filter (where t.amount < 0), 0),
    coalesce(-sum(t.amount) filter (where t.amount < 0), 0),
    coalesce(sum(t.amount) filter (where t.amount > 0), 0)
  from public.credit_transactions as t
  where t.account_id = seal_pending.account_id and t.id > settled and t.id <= through and t.operation is not null
  group by 1, 2, 3
  on conflict on constraint daily_usage_pkey do update set
    transactions = u.transactions + excluded.transactions,
    quantity = u.quantity + excluded.quantity,
    spent = u.spent + excluded.spent,
    refunded = u.refunded + excluded.refunded;

  update public.credit_accounts as a
  set
    settled_through = last_id,
    unsettled_since = case when through_id is not null then (
      select t.created_at from public.credit_transactions as t
      where t.account_id = a.id and t.id > last_id
      order by t.id
      limit 1
    ) end
  where a.id = seal_pending.account_id;
end
$$;

comment on function credits.seal_pending(uuid, bigint) is
'Last part of a settlement: adds the ledger rows since the last one, up to through_id or all, to the daily usage and '
'chains a seal over them. The caller holds the account''s lock.';
