create function credits.note_second_subscription(account_id uuid, subscription_id text) returns void
language plpgsql
set search_path = ''
as $$
declare
  me public.subscriptions;
  first_id text;
begin
  select * into me
  from public.subscriptions as s
  where s.account_id = note_second_subscription.account_id and s.id = subscription_id;
  if credits.is_live(me) or me.stripe_status in ('canceled', 'incomplete_expired') then
    return; -- it had begun before this message, or is over
  end if;
  select s.id into first_id
  from public.subscriptions as s
  where
    s.account_id = me.account_id
    and s.id <> me.id
    and credits.is_live(s)
    and not credits.is_second_subscription(s.account_id, s.id)
  order by s.created_at, s.id
  limit 1;
  if found then
    insert into credits.second_subscriptions (subscription_id, account_id, first_id, noticed_at)
    values (me.id, me.account_id, first_id, credits.now())
    on conflict on constraint second_subscriptions_pkey do nothing;
  end if;
end
$$;

comment on function credits.note_second_subscription(uuid, text) is
'To be called when a message says that a subscription has begun, before anything of the message is noted: if the '
'account has another one, this is a second. The caller holds the account''s lock.';
