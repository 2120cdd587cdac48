create function credits.apply_checkout_session(session jsonb, event_type text) returns text
language plpgsql
set search_path = ''
as $$
declare
  session_id text := session ->> 'id';
  payment text := credits.stripe_id(session -> 'payment_intent');
  pinned text := session #>> '{metadata,credits}';
  account uuid;
  known public.purchase_status;
  told public.purchase_status;
  many integer;
  purchase public.purchases;
begin
  if session #>> '{metadata,account_id}' is null or session ->> 'mode' not in ('payment', 'subscription') then
    return 'ignored: The session was not made by the function checkout.';
  end if;
  account := credits.stripe_account(null, session #>> '{metadata,account_id}');
  if session ->> 'mode' = 'subscription' then
    if session ->> 'status' <> 'complete' then
      return 'ignored: Nobody has subscribed yet.';
    end if;
    perform credits.lock_account(account);
    perform credits.link_customer(account, credits.stripe_id(session -> 'customer'));
    insert into public.subscriptions (id, account_id, plan)
    values (credits.stripe_id(session -> 'subscription'), account, session #>> '{metadata,plan}')
    on conflict (id) do nothing;
    return case when found then 'changed' else 'unchanged' end;
  end if;

  if session #>> '{metadata,package}' is null then
    return 'ignored: The session sells no package.';
  elsif pinned is null or pinned !~ '^[1-9][0-9]{0,12}$' then
    perform credits.fail(
      'PT422', 'metadata.credits is not a whole number of credits.', jsonb_build_object('session', session_id),
      'Sessions of packages are made by the function checkout.'
    );
  end if;
  told := (case
    when session ->> 'payment_status' in ('paid', 'no_payment_required') and session ->> 'status' = 'complete' then 'paid'
    when event_type = 'checkout.session.async_payment_failed' then 'failed'
    when session ->> 'status' = 'expired' then 'expired'
    when session ->> 'status' = 'complete' then 'pending'
  end)::public.purchase_status;
  if told is null then
    return 'ignored: The session is still open.';
  end if;

  -- Nothing to pay, say with a promotion code of 100 percent: not for as many as one likes.
  many := coalesce((session #>> '{metadata,quantity}')::integer, 1);
  if session ->> 'amount_total' = '0' then
    pinned := pinned::bigint / many * least(many, (select s.max_free_packages from credits.billing_settings as s));
  end if;

  perform credits.lock_stripe_object(payment);
  perform credits.lock_account(account);
  perform credits.link_customer(account, credits.stripe_id(session -> 'customer'))
  where session ->> 'customer' is not null;
  select p.status into known from public.purchases as p where p.checkout_session_id = session_id;
  if known >= told then
    return 'unchanged';
  end if;
  insert into public.purchases as p (
    account_id, checkout_session_id, payment_intent_id, package, quantity, amount, net_amount, tax_amount, currency,
    status, credits
  )
  values (
    account, session_id, payment, session #>> '{metadata,package}',
    many, (session ->> 'amount_total')::bigint,
    (session ->> 'amount_total')::bigint - (session #>> '{total_details,amount_tax}')::bigint,
    (session #>> '{total_details,amount_tax}')::bigint, session ->> 'currency', told, pinned::bigint
  )
  on conflict on constraint purchases_checkout_session_id_key do update set
    status = excluded.status,
    payment_intent_id = coalesce(excluded.payment_intent_id, p.payment_intent_id),
    amount = excluded.amount,
    net_amount = excluded.net_amount,
    tax_amount = excluded.tax_amount,
    updated_at = credits.now()
  returning * into purchase;

  if told = 'paid' then
    perform credits.grant_purchase(account, purchase.id, purchase.credits, 'purchase', null, null, session_id);
  end if;
  perform credits.net_purchase(account, purchase.id);
  perform credits.freeze_for_disputes(account, purchase.id);
  return 'changed';
end
$$;

comment on function credits.apply_checkout_session(jsonb, text) is
'What a Checkout session means: for a package, a purchase that is pending, failed, expired or paid, and granted when '
'paid; for a plan, whose customer and subscription they are, and no credits. Returns changed, unchanged or ignored.';
