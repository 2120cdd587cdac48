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
  updated_at timestamptz
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
    a.updated_at
  from public.credit_accounts as a
  cross join lateral credits.account_position(a) as p
  where a.id = credits.account_of(auth.uid());
$$;

comment on function credits.my_position() is 'The row behind user_credits: the signed-in user''s account as of now.';

grant execute on function credits.my_position() to authenticated;
