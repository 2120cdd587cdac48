create function public.close_second_subscription(
  account_id uuid,
  subscription_id text,
  outcome text,
  note text default null
) returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  purchase bigint;
  payment text;
begin
  if outcome is null or outcome not in ('refunded', 'kept', 'dismissed') then
    perform credits.fail('PT400', 'outcome is refunded, kept or dismissed.', '{}', 'Send one of them.');
  elsif char_length(btrim(note)) not between 1 and 1000 or (outcome = 'dismissed' and note is null) then
    perform credits.fail(
      'PT400', 'note must have 1 to 1000 characters.', '{}', 'Say how it was settled, or leave it out if nobody did.'
    );
  end if;
  if not exists (
    select from credits.second_subscriptions as s
    where
      s.account_id = close_second_subscription.account_id
      and s.subscription_id = close_second_subscription.subscription_id
  ) then
    perform credits.fail(
      'PT404', 'That is no second subscription of the account.',
      jsonb_build_object('account_id', account_id, 'subscription_id', left(subscription_id, 300)),
      'list_second_subscriptions lists them.'
    );
  end if;
  for payment in
    select s.payment_intent_id
    from public.purchases as p
    cross join lateral unnest(credits.purchase_payments(p)) as s (payment_intent_id)
    where
      p.account_id = close_second_subscription.account_id
      and p.subscription_id = close_second_subscription.subscription_id
    order by 1
  loop
    perform credits.lock_stripe_object(payment);
  end loop;
  perform credits.lock_account(account_id);
  update credits.second_subscriptions as s
  set outcome = close_second_subscription.outcome, note = btrim(close_second_subscription.note), closed_at = credits.now()
  where
    s.account_id = close_second_subscription.account_id
    and s.subscription_id = close_second_subscription.subscription_id
    and s.closed_at is null;
  if found and outcome = 'kept' then
    for purchase in
      select p.id from public.purchases as p
      where
        p.account_id = close_second_subscription.account_id
        and p.subscription_id = close_second_subscription.subscription_id
      order by p.id
    loop
      perform credits.claw_back_share(account_id, purchase);
    end loop;
    perform credits.collect_subscription_debts(account_id);
    perform credits.end_late_grants(account_id);
  end if;
end
$$;

comment on function public.close_second_subscription(uuid, text, text, text) is
'Operator: notes what became of a second subscription; what is closed stays as it is. outcome: refunded; kept, which '
'gives it its credits; dismissed, which needs a note. Errors: PT400 outcome or note, PT404 no second subscription.';

grant execute on function public.close_second_subscription(uuid, text, text, text) to service_role;
