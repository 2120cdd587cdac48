create function credits.open_subscription(account_id uuid, subscription_id text, plan text default null) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  insert into public.subscriptions (account_id, id, plan)
  values (open_subscription.account_id, open_subscription.subscription_id, open_subscription.plan)
  on conflict on constraint subscriptions_pkey do nothing;
  if found then
    insert into credits.stripe_objects (id, account_id)
    values (open_subscription.subscription_id, open_subscription.account_id);
  end if;
  return found;
end
$$;

comment on function credits.open_subscription(uuid, text, text) is
'Makes the row of a subscription, if there is none yet; returns whether there was none. The caller holds the '
'account''s lock.';
