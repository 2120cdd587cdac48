create function public.credit_history(
  kinds text[] default null,
  operations text[] default null,
  "from" date default null,
  "to" date default null,
  before bigint default null,
  page_size integer default 50
) returns json
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.account_of(credits.caller());
  zone text := credits.account_zone(me);
  -- What one call looks at, at most: a rare row among very many is found by several.
  most constant integer := 5000;
  known constant text[] := enum_range(null::public.transaction_kind)::text[];
  -- Of these the small tables know where they are.
  rare constant text[] := array['grant', 'refund', 'clawback', 'expiry'];
  wanted public.transaction_kind[];
  bottom bigint := 0::bigint;
  lowest bigint;
  highest bigint;
  last_use date;
  ids bigint[];
  page bigint[];
  next_id bigint;
begin
  if not kinds <@ known or cardinality(kinds) = 0 or array_position(kinds, null) is not null then
    perform credits.fail(
      'PT400', format('kinds must be of these: %s.', array_to_string(known, ', ')),
      jsonb_build_object('kinds', to_jsonb(kinds[:10])), 'Leave it out for all.'
    );
  elsif cardinality(operations) not between 1 and 50 then
    perform credits.fail(
      'PT400', 'operations must be 1 to 50 names.', jsonb_build_object('limit', 50), 'Leave it out for all.'
    );
  elsif page_size is null or page_size not between 1 and 200 then
    perform credits.fail(
      'PT400', 'page_size must be from 1 to 200.', jsonb_build_object('page_size', page_size, 'limit', 200),
      'Leave it out for 50.'
    );
  elsif before < 1 then
    perform credits.fail(
      'PT400', 'before must be a row''s id.', jsonb_build_object('before', before),
      'Send what the answer before had as next.'
    );
  elsif
    "from" not between date '2000-01-01' and date '9999-12-31'
    or "to" not between date '2000-01-01' and date '9999-12-31'
  then
    perform credits.fail(
      'PT400', 'from and to must be from 2000-01-01 to 9999-12-31.', jsonb_build_object('from', "from", 'to', "to"),
      'Send dates such as 2026-11-24.'
    );
  elsif "to" <= "from" then
    perform credits.fail(
      'PT400', 'to must be after from.', jsonb_build_object('from', "from", 'to', "to"),
      'The range ends before the day to: for one day it is the next.'
    );
  end if;

  wanted := kinds::public.transaction_kind[];

  -- The rows are numbered in the order of their time. More at both ends: days of change, and clocks that were set.
  highest := least(
    coalesce((select a.last_entry from public.credit_accounts as a where a.id = me), 0),
    before - 1,
    case when "to" is not null then
      credits.entries_before(me, "to"::timestamp at time zone zone + interval '3 hours')
    end
  );
  if "from" is not null then
    bottom := credits.entries_before(me, "from"::timestamp at time zone zone - interval '3 hours');
  end if;

  if kinds <@ rare then
    select array_agg(c.id) into ids
    from (
      select u.id
      from (
        (
          select g.transaction_id as id from credits.credit_grants as g
          where g.account_id = me and g.transaction_id > bottom and g.transaction_id <= highest
          order by g.transaction_id desc
          limit most
        )
        union
        (
          select r.transaction_id from credits.lot_returns as r
          where
            r.account_id = me and r.transaction_id > bottom and r.transaction_id <= highest
            and 'refund' = any(kinds)
          order by r.transaction_id desc
          limit most
        )
        union
        (
          select c.transaction_id from credits.clawbacks as c
          where
            c.account_id = me and c.transaction_id > bottom and c.transaction_id <= highest
            and 'clawback' = any(kinds)
          order by c.transaction_id desc
          limit most
        )
        union
        -- An expiry begins a payment.
        (
          select p.first_id from credits.lot_payments as p
          where p.account_id = me and p.first_id > bottom and p.first_id <= highest and 'expiry' = any(kinds)
          order by p.first_id desc
          limit most
        )
      ) as u
      order by u.id desc
      limit most
    ) as c;
    ids := coalesce(ids, '{}');
    lowest := case when cardinality(ids) = most then ids[most] - 1 else bottom end;
    select array_agg(f.id) into page
    from (
      select t.id
      from unnest(ids) as i (id)
      inner join public.credit_transactions as t on t.account_id = me and i.id = t.id
      where credits.is_wanted(t, wanted, operations, zone, "from", "to")
      order by t.id desc
      limit page_size
    ) as f;
  else
    -- Past what is not settled yet the days tell where an operation was used last.
    if
      operations is not null
      and highest <= (select a.settled_through from public.credit_accounts as a where a.id = me)
    then
      select max(u.day) into last_use
      from credits.usage_days as u
      inner join credits.pricing_tier_history as h on u.price_version = h.version
      where
        u.account_id = me and h.new ->> 'operation' = any(operations)
        and u.day <= (
          select (t.created_at at time zone zone)::date + 1 from public.credit_transactions as t
          where t.account_id = me and t.id = highest
        );
      highest := case when last_use is null then bottom else least(
        highest, credits.entries_before(me, (last_use + 1)::timestamp at time zone zone + interval '3 hours')
      ) end;
    end if;
    lowest := greatest(bottom, highest - most);
    select array_agg(f.id) into page
    from (
      select t.id from public.credit_transactions as t
      where
        (t.account_id, t.id) > (me, lowest) and (t.account_id, t.id) <= (me, highest)
        and credits.is_wanted(t, wanted, operations, zone, "from", "to")
      order by t.account_id desc, t.id desc
      limit page_size
    ) as f;
  end if;

  if cardinality(page) = page_size then
    next_id := page[page_size];
  elsif highest > 0 then
    next_id := lowest + 1;
  end if;
  if next_id <= bottom + 1 then
    next_id := null;
  end if;

  return json_build_object(
    'rows', coalesce(
      (
        select
          json_agg(
            json_build_object(
              'id', t.id,
              'created_at', t.created_at,
              'kind', t.kind,
              'amount', t.amount,
              'balance_after', t.balance_after,
              'operation', t.operation,
              'provider', h.new ->> 'provider',
              'model', h.new ->> 'model',
              'quantity', t.quantity,
              'unit_price', t.unit_price,
              'price_version', t.price_version,
              'related_id', t.related_id,
              'hold_id', t.hold_id,
              'source', (
                select min(g.source) from credits.credit_grants as g
                where g.account_id = me and g.transaction_id = t.id
              ),
              'cause', c.cause,
              'metadata', t.metadata
            )
            order by t.id desc
          )
        from unnest(page) as i (id)
        inner join public.credit_transactions as t on t.account_id = me and i.id = t.id
        left join credits.pricing_tier_history as h on t.price_version = h.version
        left join credits.clawbacks as c on t.account_id = c.account_id and t.id = c.transaction_id
      ),
      '[]'
    ),
    'next', next_id,
    'zone', zone,
    'as_of', credits.now()
  );
end
$$;

comment on function public.credit_history(text[], text[], date, date, bigint, integer) is
'The signed-in user''s ledger, newest first, by kinds, operations and days of their time zone, from the day "from" '
'on and before the day "to". page_size: 1 to 200; before: what the page before had as next. {rows: [{id, created_at, '
'kind, amount, balance_after, operation, provider, model, quantity, unit_price, price_version, related_id, hold_id, '
'source: of a lot that it made, cause: of a clawback, metadata}], next, zone, as_of}. A call looks at a bounded '
'number of rows: go on while next is not null, also after a page that is not full. Errors: PT400, PT403 not signed '
'in.';

grant execute on function public.credit_history(text[], text[], date, date, bigint, integer) to authenticated;
