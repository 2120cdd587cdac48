create function public.verify_ledger(user_id uuid default null) returns table (
  account_id uuid,
  invariant text,
  details jsonb
)
language sql
stable
security definer
set search_path = ''
as $$
  with accounts as (
    select a.* from public.credit_accounts as a
    where verify_ledger.user_id is null or a.id = (select credits.account_of(verify_ledger.user_id))
  ),

  allocations as materialized (
    select x.account_id, x.transaction_id, x.grant_id, x.amount
    from credits.credit_allocations as x
    where verify_ledger.user_id is null or x.account_id in (select a.id from accounts as a)
  ),

  entries as (
    select
      t.*,
      lag(t.balance_after, 1, 0::bigint) over by_account as balance_before,
      lag(t.id, 1, 0::bigint) over by_account as previous_id,
      coalesce(x.amount, 0) as allocated,
      coalesce((
        select sum(g.amount) from credits.credit_grants as g
        where g.account_id = t.account_id and g.transaction_id = t.id
      ), 0) as lots
    from public.credit_transactions as t
    left join (
      select x.account_id, x.transaction_id, sum(x.amount) as amount from allocations as x
      group by x.account_id, x.transaction_id
    ) as x on t.account_id = x.account_id and t.id = x.transaction_id
    where verify_ledger.user_id is null or t.account_id in (select a.id from accounts as a)
    window by_account as (partition by t.account_id order by t.id)
  ),

  totals as (
    select
      e.account_id,
      count(*) filter (where e.id > a.settled_through) as unsettled,
      max(e.id) as last_id,
      sum(e.amount) as balance,
      coalesce(sum(e.amount) filter (where e.kind = 'grant'), 0) as granted,
      coalesce(sum(e.amount) filter (where e.kind = 'refund'), 0) as refunded,
      coalesce(-sum(e.amount) filter (where e.kind in ('spend', 'capture')), 0) as spent,
      coalesce(-sum(e.amount) filter (where e.kind = 'expiry'), 0) as expired,
      coalesce(-sum(e.amount) filter (where e.kind = 'clawback'), 0) as clawed_back,
      coalesce(sum(-e.amount - e.allocated) filter (where e.amount < 0), 0) as unpaid,
      min(e.id) filter (where e.amount < 0 and -e.amount > e.allocated) as first_unpaid
    from entries as e
    left join accounts as a on e.account_id = a.id
    group by e.account_id
  ),

  lots as (
    select
      g.*,
      lag(g.id, 1, 0::bigint) over by_account as previous_id,
      coalesce(x.amount, 0) as allocated
    from credits.credit_grants as g
    left join (
      select x.account_id, x.grant_id, sum(x.amount) as amount from allocations as x group by x.account_id, x.grant_id
    ) as x on g.account_id = x.account_id and g.id = x.grant_id
    where verify_ledger.user_id is null or g.account_id in (select a.id from accounts as a)
    window by_account as (partition by g.account_id order by g.id)
  ),

  holds as (
    select h.* from public.credit_holds as h
    where verify_ledger.user_id is null or h.account_id in (select a.id from accounts as a)
  ),

  batches as (
    select
      s.*,
      lag(s.hash) over by_account as previous_hash,
      lag(s.number, 1, 0) over by_account as previous_number,
      lag(s.through_id, 1, 0::bigint) over by_account as after_id
    from credits.ledger_seals as s
    where verify_ledger.user_id is null or s.account_id in (select a.id from accounts as a)
    window by_account as (partition by s.account_id order by s.number)
  )

  select a.id, 'balance is the sum of the ledger', jsonb_build_object('balance', a.balance, 'sum', coalesce(t.balance, 0))
  from accounts as a
  left join totals as t on a.id = t.account_id
  where a.balance <> coalesce(t.balance, 0)
  union all
  select
    a.id,
    'lifetime totals are the sums of the ledger',
    jsonb_build_object(
      'account', jsonb_build_array(
        a.lifetime_granted, a.lifetime_refunded, a.lifetime_spent, a.lifetime_expired, a.lifetime_clawed_back
      ),
      'ledger', jsonb_build_array(t.granted, t.refunded, t.spent, t.expired, t.clawed_back)
    )
  from accounts as a
  left join totals as t on a.id = t.account_id
  where
    (a.lifetime_granted, a.lifetime_refunded, a.lifetime_spent, a.lifetime_expired, a.lifetime_clawed_back)
    <> (
      coalesce(t.granted, 0), coalesce(t.refunded, 0), coalesce(t.spent, 0), coalesce(t.expired, 0),
      coalesce(t.clawed_back, 0)
    )
  union all
  select
    e.account_id,
    'ledger rows are numbered without a gap',
    jsonb_build_object('transaction_id', e.id, 'previous', e.previous_id)
  from entries as e
  where e.id <> e.previous_id + 1
  union all
  select
    l.account_id,
    'lots are numbered without a gap',
    jsonb_build_object('grant_id', l.id, 'previous', l.previous_id)
  from lots as l
  where l.id <> l.previous_id + 1
  union all
  select
    a.id,
    'the account knows the number of its newest ledger row',
    jsonb_build_object('last_entry', a.last_entry, 'last_id', coalesce(t.last_id, 0))
  from accounts as a
  left join totals as t on a.id = t.account_id
  where a.last_entry <> coalesce(t.last_id, 0)
  union all
  select
    e.account_id,
    'each balance_after follows from the one before',
    jsonb_build_object('transaction_id', e.id, 'before', e.balance_before, 'amount', e.amount, 'after', e.balance_after)
  from entries as e
  where e.balance_after <> e.balance_before + e.amount
  union all
  select
    e.account_id,
    'grants and refunds add, all else takes, and a spend costs its price',
    jsonb_build_object(
      'transaction_id', e.id, 'kind', e.kind, 'amount', e.amount, 'unit_price', e.unit_price, 'quantity', e.quantity
    )
  from entries as e
  where
    e.amount = 0
    or (e.amount > 0) <> (e.kind in ('grant', 'refund'))
    or (e.kind in ('spend', 'capture')) <> coalesce(e.amount = -ceil(e.unit_price * e.quantity), false)
    or (e.kind = 'capture') <> (e.hold_id is not null)
    or e.kind = 'refund' and e.related_id is null
  union all
  select
    e.account_id,
    'only clawbacks, and captures and expiries after one, take a balance below zero',
    jsonb_build_object('transaction_id', e.id, 'kind', e.kind, 'after', e.balance_after)
  from entries as e
  where e.balance_after < least(0, e.balance_before) and e.kind not in ('clawback', 'capture', 'expiry')
  union all
  select
    a.id,
    'available is the balance less what is held, and not below zero',
    jsonb_build_object('balance', a.balance, 'held', a.held, 'available', a.available)
  from accounts as a
  where a.available <> greatest(0, a.balance - a.held)
  union all
  select e.account_id, 'every ledger row has an account', jsonb_build_object('transaction_id', e.id)
  from entries as e
  where not exists (select from public.credit_accounts as a where a.id = e.account_id)
  union all
  select
    a.id,
    'held is the sum of the open holds',
    jsonb_build_object('held', a.held, 'holds', coalesce(sum(h.amount), 0))
  from accounts as a
  left join holds as h on a.id = h.account_id and h.status = 'held'
  group by a.id, a.held
  having a.held <> coalesce(sum(h.amount), 0)
  union all
  select
    h.account_id,
    'a captured hold has one capture, within what was held',
    jsonb_build_object('hold_id', h.id, 'held', h.amount, 'captured', -e.amount)
  from holds as h
  left join entries as e on h.account_id = e.account_id and h.id = e.hold_id
  where
    (h.status = 'captured') <> (e.id is not null)
    or h.transaction_id is distinct from e.id
    or -e.amount > h.amount
    or e.unit_price <> h.unit_price
  union all
  select
    e.account_id,
    'a capture names a hold',
    jsonb_build_object('transaction_id', e.id, 'hold_id', e.hold_id)
  from entries as e
  where
    e.hold_id is not null
    and not exists (select from public.credit_holds as h where h.account_id = e.account_id and h.id = e.hold_id)
  union all
  select
    l.account_id,
    'what remains of a lot is its amount less its allocations',
    jsonb_build_object('grant_id', l.id, 'amount', l.amount, 'remaining', l.remaining, 'allocated', l.allocated)
  from lots as l
  where l.remaining <> l.amount - l.allocated
  union all
  select
    a.id,
    'lots less unpaid debits are the balance',
    jsonb_build_object('balance', a.balance, 'lots', coalesce(l.remaining, 0), 'unpaid', coalesce(t.unpaid, 0))
  from accounts as a
  left join totals as t on a.id = t.account_id
  left join (select lots.account_id, sum(lots.remaining) as remaining from lots group by lots.account_id) as l
    on a.id = l.account_id
  where a.balance <> coalesce(l.remaining, 0) - coalesce(t.unpaid, 0)
  union all
  select
    e.account_id,
    'each transaction has the lots that it should have',
    jsonb_build_object(
      'transaction_id', e.id, 'kind', e.kind, 'amount', e.amount, 'allocated', e.allocated, 'lots', e.lots
    )
  from entries as e
  left join accounts as a on e.account_id = a.id
  where
    case
      when e.kind = 'grant' then e.lots <> e.amount or e.allocated <> 0
      when e.kind = 'refund' then e.lots - e.allocated <> e.amount
      when e.id <= a.settled_through and (a.debt_from is null or e.id < a.debt_from)
        then e.allocated <> -e.amount or e.lots <> 0
      else e.allocated not between 0 and -e.amount or e.lots <> 0
    end
  union all
  select a.id, 'debt_from names the oldest unpaid debit', jsonb_build_object('debt_from', a.debt_from, 'oldest', t.first_unpaid)
  from accounts as a
  left join totals as t on a.id = t.account_id
  where
    a.debt_from is not null and a.debt_from is distinct from t.first_unpaid
    or a.debt_from is null and t.first_unpaid <= a.settled_through
  union all
  select
    l.account_id,
    'a lot belongs to a ledger row of its account',
    jsonb_build_object('grant_id', l.id, 'transaction_id', l.transaction_id)
  from lots as l
  left join public.credit_transactions as t on l.account_id = t.account_id and l.transaction_id = t.id
  where t.id is null or t.kind not in ('grant', 'refund')
  union all
  select
    x.account_id,
    'an allocation joins a lot and a ledger row of its account',
    jsonb_build_object('grant_id', x.grant_id, 'transaction_ids', array[x.first_id, x.last_id])
  from (
    select p.account_id, p.grant_id, p.first_id, p.last_id, true as is_debit from credits.lot_payments as p
    union all
    select r.account_id, r.grant_id, r.transaction_id, r.transaction_id, false from credits.lot_returns as r
  ) as x
  left join credits.credit_grants as l on x.account_id = l.account_id and x.grant_id = l.id
  left join public.credit_transactions as f on x.account_id = f.account_id and x.first_id = f.id
  left join public.credit_transactions as t on x.account_id = t.account_id and x.last_id = t.id
  where
    (l.id is null or ((f.amount < 0) <> x.is_debit) is not false or ((t.amount < 0) <> x.is_debit) is not false)
    and (verify_ledger.user_id is null or x.account_id in (select a.id from accounts as a))
  union all
  select
    e.account_id,
    'refunds do not exceed what their transaction spent',
    jsonb_build_object('transaction_id', e.id, 'spent', -e.amount, 'refunded', sum(r.amount))
  from entries as e
  inner join entries as r on e.account_id = r.account_id and e.id = r.related_id and r.kind = 'refund'
  group by e.account_id, e.id, e.amount, e.kind
  having sum(r.amount) > -e.amount or e.kind not in ('spend', 'capture', 'clawback')
  union all
  select
    e.account_id,
    'a refund names a transaction that exists',
    jsonb_build_object('transaction_id', e.id, 'related_id', e.related_id)
  from entries as e
  where
    e.related_id is not null
    and not exists (
      select from public.credit_transactions as t where t.account_id = e.account_id and t.id = e.related_id
    )
  union all
  select
    b.account_id,
    'each seal matches its ledger rows',
    jsonb_build_object('seal', b.number, 'through_id', b.through_id, 'sealed_entries', b.entries, 'entries', r.entries)
  from batches as b
  cross join lateral (
    select
      count(*) as entries,
      max(t.id) as last_id,
      string_agg(
        credits.entry_digest(
          t, b.format, coalesce(x.digest, credits.text_digest(t, coalesce(x.salt, credits.text_salt(b.salt, t.id))))
        ),
        '' order by t.id
      ) as digests
    from public.credit_transactions as t
    left join credits.sealed_texts as x on t.account_id = x.account_id and t.id = x.transaction_id
    where t.account_id = b.account_id and t.id > b.after_id and t.id <= b.through_id
  ) as r
  where
    b.number <> b.previous_number + 1
    or r.entries <> b.entries
    or r.last_id is distinct from b.through_id
    or b.hash <> credits.seal_hash(b.previous_hash, coalesce(r.digests, ''))
  union all
  select
    b.account_id,
    'each seal has a format that is known',
    jsonb_build_object('seal', b.number, 'format', b.format)
  from batches as b
  where b.format not between 1 and credits.seal_format()
  union all
  select
    e.account_id,
    'an erased row has no text',
    jsonb_build_object('transaction_id', e.id)
  from entries as e
  inner join credits.sealed_texts as x on e.account_id = x.account_id and e.id = x.transaction_id
  where x.digest is not null and (e.idempotency_key is not null or e.metadata <> '{}')
  union all
  select
    e.account_id,
    'an expiry is not dated before its lot expired',
    jsonb_build_object('transaction_id', e.id, 'created_at', e.created_at, 'expires_at', l.expires_at)
  from entries as e
  inner join credits.lot_payments as p on e.account_id = p.account_id and e.id = p.first_id
  inner join lots as l on p.account_id = l.account_id and p.grant_id = l.id
  where e.kind = 'expiry' and e.created_at < l.expires_at and not e.metadata ? 'ended_early'
  union all
  select
    a.id,
    'the account is settled through its last seal',
    jsonb_build_object('settled_through', a.settled_through, 'sealed_through', coalesce(max(b.through_id), 0))
  from accounts as a
  left join batches as b on a.id = b.account_id
  group by a.id, a.settled_through
  having a.settled_through <> coalesce(max(b.through_id), 0)
  union all
  select
    a.id,
    'maintenance knows of every unsettled account',
    jsonb_build_object(
      'settled_through', a.settled_through, 'last_entry', a.last_entry, 'unsettled', coalesce(t.unsettled, 0),
      'unsettled_since', a.unsettled_since
    )
  from accounts as a
  left join totals as t on a.id = t.account_id
  where
    a.last_entry - a.settled_through <> coalesce(t.unsettled, 0)
    or a.last_entry > a.settled_through and a.unsettled_since is null
  union all
  select a.id, 'the account knows that holds have keys', '{}'::jsonb
  from accounts as a
  where
    not a.has_keyed_holds
    and exists (select from holds as h where h.account_id = a.id and h.idempotency_key is not null)
  union all
  select
    coalesce(e.account_id, c.account_id),
    'each clawback says why it was made',
    jsonb_build_object('transaction_id', coalesce(e.id, c.transaction_id), 'cause', c.cause)
  from (select * from entries where entries.kind = 'clawback') as e
  full join (
    select * from credits.clawbacks as k
    where verify_ledger.user_id is null or k.account_id in (select a.id from accounts as a)
  ) as c
    on e.account_id = c.account_id and e.id = c.transaction_id
  where e.id is null or c.transaction_id is null
  union all
  select
    coalesce(u.account_id, c.account_id),
    'the usage of a day is the sum of its spends, captures and refunds',
    jsonb_build_object(
      'day', coalesce(u.day, c.day), 'price_version', coalesce(u.price_version, c.price_version),
      'kept', jsonb_build_array(u.transactions, u.quantity, u.spent, u.refunded, u.refunded_of),
      'ledger', jsonb_build_array(c.transactions, c.quantity, c.spent, c.refunded, c.refunded_of)
    )
  from (
    select * from credits.usage_days as k
    where verify_ledger.user_id is null or k.account_id in (select a.id from accounts as a)
  ) as u
  full join (
    select a.id as account_id, l.*
    from accounts as a
    cross join lateral credits.usage_of(a.id, credits.account_zone(a.id), 0, a.settled_through) as l
  ) as c
    on u.account_id = c.account_id and u.day = c.day and u.price_version = c.price_version
  where
    (u.transactions, u.quantity, u.spent, u.refunded, u.refunded_of)
    is distinct from (c.transactions, c.quantity, c.spent, c.refunded, c.refunded_of)
  union all
  select
    p.account_id,
    'what a purchase has brought and lost is the sum of its grants and clawbacks',
    jsonb_build_object(
      'purchase_id', p.id, 'granted', p.credits_granted, 'grants', g.credits, 'clawed_back', p.credits_clawed_back,
      'clawbacks', c.credits
    )
  from public.purchases as p
  cross join lateral (
    select coalesce(sum(e.amount), 0) as credits
    from credits.purchase_grants as o
    inner join public.credit_transactions as e
      on o.account_id = e.account_id and o.transaction_id = e.id and e.kind = 'grant'
    where o.account_id = p.account_id and o.purchase_id = p.id
  ) as g
  cross join lateral (
    select
      coalesce(sum(-t.amount - coalesce((
        select sum(r.amount) from public.credit_transactions as r
        where r.account_id = t.account_id and r.related_id = t.id and r.kind = 'refund'
      ), 0)), 0) as credits
    from credits.clawbacks as o
    inner join public.credit_transactions as t on o.account_id = t.account_id and o.transaction_id = t.id
    where o.account_id = p.account_id and o.purchase_id = p.id and o.cause = 'money_back'
  ) as c
  where
    (verify_ledger.user_id is null or p.account_id in (select a.id from accounts as a))
    and (p.credits_granted <> g.credits or p.credits_clawed_back <> c.credits)
  union all
  select
    a.id,
    'next_expiry is not later than what expires next',
    jsonb_build_object('next_expiry', a.next_expiry, 'next', credits.next_expiry(a.id, a.updated_at))
  from accounts as a
  where not coalesce(a.next_expiry <= credits.next_expiry(a.id, a.updated_at), credits.next_expiry(a.id, a.updated_at) is null);
$$;

comment on function public.verify_ledger(uuid) is
'Operator: checks every rule of the ledger from its rows, for one user or for all; returns one row per broken '
'invariant: account, the invariant in words, figures. No row when all is well. Among the rules are the seals that '
'credits.settle_batch makes. Reads everything: run a whole check '
'from a direct connection, not through the API, once the ledger is large.';

grant execute on function public.verify_ledger(uuid) to service_role;
