create function credits.my_position() returns table (
  account_id uuid,
  balance bigint,
  available bigint,
  held bigint,
  lifetime_granted bigint,
  lifetime_spent bigint,
  lifetime_refunded bigint,
  lifetime_expired bigint,
  lifetime_clawed_back bigint,
  frozen_at timestamptz,
  updated_at timestamptz,
  expires_next bigint,
  expires_next_at timestamptz,
  status text,
  last_entry bigint
)
language sql
stable
security definer
set search_path = ''
as $$
  select
    a.id,
    p.balance,
    p.available,
    p.held,
    a.lifetime_granted,
    a.lifetime_spent,
    a.lifetime_refunded,
    a.lifetime_expired + (a.balance - p.balance),
    a.lifetime_clawed_back,
    a.frozen_at,
    a.updated_at,
    e.credits,
    e.expires_at,
    case
      when a.frozen_at is not null then 'frozen'
      when p.balance < 0 then 'debt'
      when p.available <= 0 then 'empty'
      when p.available <= (select s.low_balance from credits.billing_settings as s) then 'low'
      else 'ok'
    end,
    a.last_entry
  from public.credit_accounts as a
  cross join lateral credits.account_position(a) as p
  left join lateral (
    select l.expires_at, sum(l.remaining)::bigint as credits
    from credits.lots_as_of_now(a.id) as l
    where l.expires_at > credits.now()
    group by l.expires_at
    order by l.expires_at
    limit 1
  ) as e on a.next_expiry is not null
  where a.id = credits.account_of(auth.uid());
$$;

comment on function credits.my_position() is 'The row behind user_credits: the signed-in user''s account as of now.';

grant execute on function credits.my_position() to authenticated;
