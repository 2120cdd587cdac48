create function public.prepare_portal(flow text default null) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  known_as text;
  customer credits.stripe_customers;
  subscription public.subscriptions;
begin
  if flow not in ('cancel', 'change', 'payment_method') then
    perform credits.fail(
      'PT400', 'flow is cancel, change or payment_method.', jsonb_build_object('flow', left(flow, 100)),
      'Leave it out for the whole portal.'
    );
  end if;
  known_as := public.my_stripe_customer();
  select * into customer from credits.stripe_customers as c where c.customer_id = known_as;
  if flow in ('cancel', 'change') then
    select * into subscription
    from public.subscriptions as s
    where
      s.account_id = customer.account_id
      and credits.is_live(s)
      and not credits.is_second_subscription(s.account_id, s.id)
    order by s.created_at desc
    limit 1;
    if not found then
      perform credits.fail('PT404', 'You have no subscription.', '{}', 'Subscribe to a plan first.');
    elsif flow = 'cancel' and subscription.cancel_at is not null then
      perform credits.fail(
        'PT409', 'Your subscription is cancelled already.', jsonb_build_object('cancel_at', subscription.cancel_at),
        'To keep it, open the portal without flow.'
      );
    end if;
  end if;
  perform credits.count_checkout(customer.account_id);
  return jsonb_build_object(
    'account_id', customer.account_id,
    'customer_id', customer.customer_id,
    'email', credits.email_to_tell(me, null),
    'tell_email', credits.email_to_tell(me, customer.email_hash) is not null,
    'subscription_id', subscription.id
  );
end
$$;

comment on function public.prepare_portal(text) is
'What a session of the billing portal for the signed-in user needs: {account_id, customer_id, email, tell_email, '
'subscription_id}. tell_email: whether Stripe has yet to be told the address. flow: cancel or change (of the '
'subscription), payment_method, or null for all. Errors: PT400 flow, PT403 not signed in, PT404 nothing bought or no '
'subscription, PT409 cancelled already, PT429 too many (details: limit, retry_after).';

grant execute on function public.prepare_portal(text) to authenticated;
