create function public.close_checkout(account_id uuid, session_id text) returns void
language sql
security definer
set search_path = ''
as $$
  update credits.plan_checkouts as c set closed_at = credits.now()
  where c.account_id = close_checkout.account_id and c.session_id = close_checkout.session_id and c.closed_at is null;
$$;

comment on function public.close_checkout(uuid, text) is
'For the function checkout: notes that a session for a plan can no longer be paid. Harmless to repeat.';

grant execute on function public.close_checkout(uuid, text) to service_role;
