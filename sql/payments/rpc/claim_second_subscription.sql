create function public.claim_second_subscription(
  account_id uuid,
  subscription_id text,
  release boolean default false
) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
  update credits.second_subscriptions as s
  set claimed_until = case when not release then credits.now() + interval '1 minute' end
  where
    s.account_id = claim_second_subscription.account_id
    and s.subscription_id = claim_second_subscription.subscription_id
    and (release or s.claimed_until is null or s.claimed_until < credits.now());
  return found;
end
$$;

comment on function public.claim_second_subscription(uuid, text, boolean) is
'For the functions: whether the caller may deal with a second subscription now, for a minute; release ends that. '
'Several messages tell of it at once, and one call is enough.';

grant execute on function public.claim_second_subscription(uuid, text, boolean) to service_role;
