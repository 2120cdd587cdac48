create view public.user_credits
with (security_invoker = true)
as
select
  account_id,
  balance,
  available,
  held,
  lifetime_granted,
  lifetime_spent,
  lifetime_refunded,
  lifetime_expired,
  lifetime_clawed_back,
  frozen_at,
  updated_at,
  expires_next,
  expires_next_at,
  status,
  last_entry
from credits.my_position();

revoke all on table public.user_credits from anon, authenticated, service_role;
grant select on table public.user_credits to authenticated;

comment on view public.user_credits is
'The signed-in user''s credits, one row: balance, available (balance - held), held and lifetime totals, in credits; '
'how many expire next and when; status: frozen, debt (below zero), empty, low (up to billing_settings.low_balance) '
'or ok; last_entry: the newest ledger row, which tells which of two answers is newer. As of now: what has expired is '
'not counted, settled or not.';
