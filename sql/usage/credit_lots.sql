create function public.credit_lots(before bigint default null, page_size integer default 20) returns json
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.account_of(credits.caller());
  moment timestamptz := credits.now();
  -- Of those with something left, the first to burn.
  most constant integer := 200;
  account record;
  answer json;
begin
  if page_size is null or page_size not between 1 and 200 then
    perform credits.fail(
      'PT400', 'page_size must be from 1 to 200.', jsonb_build_object('page_size', page_size, 'limit', 200),
      'Leave it out for 20.'
    );
  elsif before < 1 then
    perform credits.fail(
      'PT400', 'before must be a lot''s id.', jsonb_build_object('before', before),
      'Send what the answer before had as next.'
    );
  end if;
  select p.balance, p.available, p.held into account from credits.my_position() as p;

  with open as materialized (
    select
      l.id,
      l.remaining - coalesce(d.credits, 0) as remaining,
      -- Credits that only a hold keeps go before those that would stay.
      row_number() over (
        order by case when l.expires_at <= moment then l.expires_at end nulls last, b.burn_position
      ) as position
    from credits.lots_as_of_now(me) as l
    inner join credits.lots_in_burn_order as b on b.account_id = me and l.id = b.id
    left join credits.due_expiries(me, moment) as d on l.id = d.grant_id
    where l.remaining > coalesce(d.credits, 0)
  ),

  ended as materialized (
    select g.id from credits.credit_grants as g
    where
      g.account_id = me and (credit_lots.before is null or g.id < credit_lots.before)
      and g.id not in (select o.id from open as o)
    order by g.id desc
    limit page_size + 1
  ),

  lot as materialized (
    select
      o.position,
      g.*,
      coalesce(o.remaining, 0) as left_now
    from (
      select o.id, o.remaining, o.position from open as o where o.position <= most
      union all
      select e.id, null, null from (select x.id from ended as x order by x.id desc limit page_size) as e
    ) as o
    inner join credits.credit_grants as g on g.account_id = me and o.id = g.id
  ),

  -- What is written off already, and what only has not been settled.
  expired as materialized (
    select w.grant_id, sum(w.credits)::bigint as credits
    from (
      select p.grant_id, p.first_amount as credits
      from credits.lot_payments as p
      inner join public.credit_transactions as t
        on p.account_id = t.account_id and p.first_id = t.id and t.kind = 'expiry'
      where p.account_id = me and p.grant_id in (select l.id from lot as l)
      union all
      select d.grant_id, d.credits from credits.due_expiries(me, moment) as d
    ) as w
    group by w.grant_id
  ),

  told as (
    select
      l.id,
      l.position,
      json_build_object(
        'id', l.id,
        'source', l.source,
        'state', case
          when l.position is not null and l.expires_at <= moment then 'lapsed'
          when l.position is not null then 'active'
          when x.credits > 0 then 'expired'
          else 'used'
        end,
        'position', l.position,
        'amount', l.amount,
        'remaining', l.left_now,
        'used', l.amount - l.left_now - coalesce(x.credits, 0),
        'expired', coalesce(x.credits, 0),
        'expires_at', l.expires_at,
        'granted_at', l.created_at,
        'promotional', l.promotional,
        'priority', l.priority,
        'transaction_id', l.transaction_id
      ) as lot
    from lot as l
    left join expired as x on l.id = x.grant_id
  )

  select
    json_build_object(
      'balance', coalesce(account.balance, 0),
      'available', greatest(0, coalesce(account.available, 0)),
      'held', coalesce(account.held, 0),
      'debt', greatest(0, -coalesce(account.balance, 0)),
      'zone', credits.account_zone(me),
      'as_of', moment,
      'open', coalesce((select json_agg(t.lot order by t.position) from told as t where t.position is not null), '[]'),
      'open_count', (select count(*) from open),
      'ended', coalesce((select json_agg(t.lot order by t.id desc) from told as t where t.position is null), '[]'),
      'next', case
        when (select count(*) from ended) > page_size then (select min(t.id) from told as t where t.position is null)
      end
    )
  into answer;
  return answer;
end
$$;

comment on function public.credit_lots(bigint, integer) is
'The signed-in user''s lots of credits, as of now. {balance, available, held, debt, zone, as_of, open: those with '
'something left in burn order, the first 200 of open_count, ended: the others, newest first, page_size (1 to 200) of '
'them, next: the before of the next page, null at the end}. A lot: {id, source, state, position: in burn order, '
'amount, remaining, used: what clawbacks took included, expired, expires_at, granted_at, promotional, priority, '
'transaction_id}; state: active, lapsed (expired, but kept by an open hold), used, expired. Errors: PT400, PT403 not '
'signed in.';

grant execute on function public.credit_lots(bigint, integer) to authenticated;
