create function credits.is_second_subscription(account_id uuid, subscription_id text) returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return exists (
    select from credits.second_subscriptions as s
    where
      s.account_id = is_second_subscription.account_id
      and s.subscription_id = is_second_subscription.subscription_id
      and s.outcome is distinct from 'kept'
  );
end
$$;

comment on function credits.is_second_subscription(uuid, text) is
'Whether a subscription came second, so that it brings no credits.';
