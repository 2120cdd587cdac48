create function credits.open_subscription(account_id uuid, subscription_id text, plan text default null) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  insert into public.subscriptions (account_id, id, plan)
  values (open_subscription.account_id, open_subscription.subscription_id, open_subscription.plan)
  on conflict on constraint subscriptions_pkey do nothing;
  if not found then
    return false;
  end if;
  insert into credits.stripe_objects (id, account_id)
  values (open_subscription.subscription_id, open_subscription.account_id)
  on conflict (id) do nothing;
  if not found then
    perform credits.fail(
      'PT422', 'The subscription is another account''s.',
      jsonb_build_object('subscription', subscription_id, 'account_id', account_id),
      'It stays with the account that it was first told for. Dismiss this, or move what it paid for by hand.'
    );
  end if;
  return true;
end
$$;

comment on function credits.open_subscription(uuid, text, text) is
'Makes the row of a subscription, if there is none yet; returns whether there was none. PT422 for one that is another '
'account''s. The caller holds the account''s lock.';
