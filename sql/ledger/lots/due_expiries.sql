create function credits.due_expiries(account_id uuid, moment timestamptz) returns table (
  grant_id bigint,
  expired_at timestamptz,
  credits bigint
)
language sql
stable
set search_path = ''
as $$
  with due as (
    select
      l.id,
      l.remaining,
      l.expires_at,
      -- Only a hold that was made while the lot lived can keep it alive.
      (
        select coalesce(sum(h.amount), 0)
        from public.credit_holds as h
        where
          h.account_id = due_expiries.account_id
          and h.status = 'held'
          and h.expires_at > moment
          and h.created_at < l.expires_at
      ) as holds
    from credits.lots_as_of_now(due_expiries.account_id) as l
    where l.expires_at <= moment
  ),

  summed as (
    select
      due.*,
      sum(due.remaining) over expiry_order as through
    from due
    window expiry_order as (order by due.expires_at, due.id)
  ),

  -- Lot by lot, kept(n) = least(kept(n - 1) + remaining(n), holds(n)); this is the same without the recursion.
  kept as (
    select
      summed.*,
      summed.through + least(0, min(summed.holds - summed.through) over expiry_order) as kept_through
    from summed
    window expiry_order as (order by summed.expires_at, summed.id)
  )

  select
    k.id,
    k.expires_at,
    k.remaining - (k.kept_through - lag(k.kept_through, 1, 0::numeric) over (order by k.expires_at, k.id))::bigint
  from kept as k;
$$;

comment on function credits.due_expiries(uuid, timestamptz) is
'What is gone, in credits, of each lot whose expiry has come by the moment. A hold rests on the credits that expire '
'first: as much of those as open holds made before the expiry cover stays until the holds end. The result depends on '
'the moment only, not on when the account was settled before.';
