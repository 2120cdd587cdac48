create function credits.apply_subscription(subscription jsonb, is_event boolean) returns text
language plpgsql
set search_path = ''
as $$
declare
  old public.subscriptions;
  new public.subscriptions;
  account uuid;
  old_rank record;
  new_rank record;
  period bigint;
begin
  select p.slug, (i.value ->> 'quantity')::integer into new.plan, new.quantity
  from jsonb_array_elements(subscription #> '{items,data}') as i
  inner join public.subscription_plans as p on credits.stripe_id(i.value #> '{price}') = p.stripe_price_id
  order by p.id
  limit 1;
  new.id := subscription ->> 'id';
  if
    new.plan is null
    and subscription #>> '{metadata,account_id}' is null
    and not exists (select from credits.stripe_objects as o where o.id = new.id)
  then
    return 'ignored: The subscription is to no plan of ours.';
  end if;
  account := credits.subscriber(new.id, subscription -> 'customer', subscription -> 'metadata');
  if account is null then
    perform credits.fail(
      'PT422', 'The subscription is to a plan of ours, but neither its metadata nor its customer names an account.',
      jsonb_build_object('plan', new.plan, 'customer', subscription -> 'customer'),
      'Link the customer with link_stripe_customer; then retry_stripe_events applies it.'
    );
  end if;

  new.stripe_status := subscription ->> 'status';
  select
    to_timestamp(max((i.value ->> 'current_period_start')::bigint)),
    to_timestamp(max((i.value ->> 'current_period_end')::bigint))
  into new.current_period_start, new.current_period_end
  from jsonb_array_elements(subscription #> '{items,data}') as i;
  new.trial_end := to_timestamp((subscription ->> 'trial_end')::bigint);
  new.cancel_at := to_timestamp((subscription ->> 'cancel_at')::bigint);
  new.canceled_at := to_timestamp((subscription ->> 'canceled_at')::bigint);
  new.ended_at := to_timestamp((subscription ->> 'ended_at')::bigint);
  new.paused := jsonb_typeof(subscription -> 'pause_collection') = 'object' or new.stripe_status = 'paused';
  new.latest_invoice_id := credits.stripe_id(subscription -> 'latest_invoice');

  perform credits.lock_account(account);
  perform credits.open_subscription(account, new.id, new.plan);
  select * into old from public.subscriptions as s where s.account_id = account and s.id = new.id;
  new.plan := coalesce(new.plan, old.plan);
  new.account_id := old.account_id;
  new.status := old.status;
  new.refresh_wanted := old.refresh_wanted;
  new.created_at := old.created_at;
  new.updated_at := old.updated_at;
  old_rank := credits.subscription_rank(old);
  new_rank := credits.subscription_rank(new);
  if old_rank.ended or is_event and new_rank < old_rank then
    return 'unchanged'; -- deleted is final; an event of an earlier stage is old news
  elsif new = old and is_event then
    return 'unchanged';
  end if;

  perform credits.note_second_subscription(account, new.id)
  where new.stripe_status in ('trialing', 'active', 'past_due', 'unpaid', 'paused');
  -- Two contents of one stage: which is newer, only Stripe can say. An object that was just asked for is the answer.
  new.refresh_wanted := is_event and new_rank = old_rank;
  update public.subscriptions as s
  set
    plan = new.plan,
    quantity = new.quantity,
    stripe_status = new.stripe_status,
    current_period_start = new.current_period_start,
    current_period_end = new.current_period_end,
    trial_end = new.trial_end,
    cancel_at = new.cancel_at,
    canceled_at = new.canceled_at,
    ended_at = new.ended_at,
    paused = new.paused,
    latest_invoice_id = new.latest_invoice_id,
    refresh_wanted = new.refresh_wanted
  where s.account_id = account and s.id = new.id;
  perform credits.set_subscription_status(account, new.id);
  if new.ended_at is not null then
    -- Months that began since then, before this was told.
    for period in
      select a.purchase_id from credits.allotments as a
      where a.account_id = account and a.subscription_id = new.id and a.months is not null
      order by a.purchase_id
    loop
      perform credits.claw_back_share(account, period);
    end loop;
    perform credits.collect_subscription_debts(account);
  end if;
  return case when new is distinct from old then 'changed' else 'unchanged' end;
end
$$;

comment on function credits.apply_subscription(jsonb, boolean) is
'Notes what a subscription is now, told by an event or just asked for. Which of two contents is newer is told by '
'themselves: ended is final, later periods win, incomplete comes first; where they do not tell, refresh_wanted is set. '
'Grants nothing, and takes only months that began after the end. Returns changed, unchanged or ignored.';
