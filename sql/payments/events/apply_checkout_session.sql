create function credits.apply_checkout_session(session jsonb, event_type text) returns text
language plpgsql
set search_path = ''
as $$
declare
  session_id text := session ->> 'id';
  payment text := credits.stripe_id(session -> 'payment_intent');
  pinned text := session #>> '{metadata,credits}';
  known credits.stripe_objects;
  account uuid;
  told public.purchase_status;
  many integer;
  purchase public.purchases;
begin
  if session ->> 'mode' not in ('payment', 'subscription') then
    return 'ignored: The session was not made by the function checkout.';
  end if;
  perform credits.lock_stripe_object(session_id);
  -- Known once, known for good: whose it is, and what it sells, is not what its metadata say by now.
  select * into known from credits.stripe_objects as o where o.id = session_id;
  if known.id is null and session #>> '{metadata,account_id}' is null then
    return 'ignored: The session was not made by the function checkout.';
  end if;
  account := coalesce(known.account_id, credits.paying_account(null, session #>> '{metadata,account_id}'));
  if session ->> 'mode' = 'subscription' then
    if session ->> 'status' <> 'complete' then
      return 'ignored: Nobody has subscribed yet.';
    end if;
    perform credits.lock_account(account);
    perform credits.link_customer(account, credits.stripe_id(session -> 'customer'));
    return case
      when credits.open_subscription(account, credits.stripe_id(session -> 'subscription'), session #>> '{metadata,plan}')
        then 'changed'
      else 'unchanged'
    end;
  end if;

  if known.purchase_id is not null then
    select * into purchase from public.purchases as p where p.account_id = account and p.id = known.purchase_id;
  elsif session #>> '{metadata,package}' is null then
    return 'ignored: The session sells no package.';
  elsif coalesce(pinned, '') !~ '^[1-9][0-9]{0,12}$' then
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
  elsif purchase.status >= told then
    return 'unchanged';
  end if;

  perform credits.lock_stripe_object(payment);
  perform credits.lock_account(account);
  if session ->> 'customer' is not null then
    perform credits.link_customer(account, credits.stripe_id(session -> 'customer'));
  end if;
  if purchase.id is null then
    -- Nothing to pay, say with a promotion code of 100 percent: not for as many as one likes.
    many := coalesce((session #>> '{metadata,quantity}')::integer, 1);
    if session ->> 'amount_total' = '0' then
      pinned := pinned::bigint / many * least(many, (select s.max_free_packages from credits.billing_settings as s));
    end if;
    insert into public.purchases (
      account_id, id, checkout_session_id, payment_intent_id, package, quantity, amount, net_amount, tax_amount,
      currency, status, credits
    )
    values (
      account, credits.next_purchase(account), session_id, payment, session #>> '{metadata,package}', many,
      (session ->> 'amount_total')::bigint,
      (session ->> 'amount_total')::bigint - (session #>> '{total_details,amount_tax}')::bigint,
      (session #>> '{total_details,amount_tax}')::bigint, session ->> 'currency', told, pinned::bigint
    )
    returning * into purchase;
    insert into credits.stripe_objects (id, account_id, purchase_id) values (session_id, account, purchase.id)
    on conflict (id) do update set purchase_id = excluded.purchase_id;
  else
    update public.purchases as p
    set
      status = told,
      payment_intent_id = coalesce(payment, p.payment_intent_id),
      amount = (session ->> 'amount_total')::bigint,
      net_amount = (session ->> 'amount_total')::bigint - (session #>> '{total_details,amount_tax}')::bigint,
      tax_amount = (session #>> '{total_details,amount_tax}')::bigint,
      updated_at = credits.now()
    where p.account_id = purchase.account_id and p.id = purchase.id
    returning * into purchase;
  end if;
  if payment is not null then
    perform credits.link_payment(account, purchase.id, payment);
  end if;

  if told = 'paid' then
    perform credits.grant_purchase(
      account, purchase.id, purchase.credits, 'purchase', null, null, session_id, purchase.net_amount
    );
  end if;
  perform credits.claw_back_share(account, purchase.id);
  perform credits.freeze_for_disputes(account, purchase.id);
  return 'changed';
end
$$;

comment on function credits.apply_checkout_session(jsonb, text) is
'What a Checkout session means: for a package, a purchase that is pending, failed, expired or paid, and granted when '
'paid; for a plan, whose customer and subscription they are, and no credits. Of the account that it was first told '
'for, whatever its metadata say later. Returns changed, unchanged or ignored.';
