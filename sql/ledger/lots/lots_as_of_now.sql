create function credits.lots_as_of_now(account_id uuid) returns table (
  id bigint,
  remaining bigint,
  expires_at timestamptz,
  source public.grant_source
)
language sql
stable
set search_path = ''
as $$
  with account as (
    select
      a.balance,
      (
        select t.created_at from public.credit_transactions as t
        where t.account_id = a.id
        order by t.id desc
        limit 1
      ) as last_entry_at
    from public.credit_accounts as a
    where a.id = lots_as_of_now.account_id
  ),

  lots as (
    select
      l.id,
      l.remaining,
      l.expires_at,
      l.source,
      l.burn_position,
      -- Expired before the newest ledger row was written: nothing unsettled can have burned it.
      coalesce(l.expires_at <= account.last_entry_at, false) as lapsed,
      -- What the lots do not know of yet: debits since the last settlement.
      sum(l.remaining) over () - account.balance as pending
    from credits.lots_in_burn_order as l
    cross join account
    where l.account_id = lots_as_of_now.account_id
  ),

  reached as (
    select
      lots.*,
      coalesce(sum(lots.remaining) filter (where not lots.lapsed) over (
        order by lots.burn_position rows between unbounded preceding and 1 preceding
      ), 0) as ahead
    from lots
  )

  select
    r.id,
    case
      when r.lapsed then r.remaining
      else r.remaining - greatest(0, least(r.remaining, r.pending - r.ahead))::bigint
    end,
    r.expires_at,
    r.source
  from reached as r
  where r.lapsed or r.pending - r.ahead < r.remaining;
$$;

comment on function credits.lots_as_of_now(uuid) is
'The account''s lots with what is left of each, in credits, once the debits since the last settlement are taken off '
'in burn order. Lots past their expiry are still there: credits.due_expiries tells what of them is gone.';
