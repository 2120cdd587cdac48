create function public.prepare_checkout(
  package text default null,
  plan text default null,
  quantity integer default 1,
  currency text default null
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  account uuid := credits.open_account(me);
  frozen timestamptz := (select a.frozen_at from public.credit_accounts as a where a.id = account);
  settings credits.billing_settings;
  wanted text;
  sold public.credit_packages;
  offered public.subscription_plans;
  allotment bigint;
  most integer;
  trial integer;
  price_id text;
  checked credits.stripe_prices;
  differences text[];
  item jsonb;
  metadata jsonb;
  customer credits.stripe_customers;
begin
  select * into settings from credits.billing_settings;
  wanted := coalesce(lower(currency), settings.default_currency);
  if frozen is not null then
    perform credits.fail(
      'PT403', 'The account is frozen: it can buy nothing.', jsonb_build_object('frozen_at', frozen),
      'Ask the app''s support.'
    );
  elsif num_nonnulls(package, plan) <> 1 then
    perform credits.fail('PT400', 'Name a package or a plan.', '{}', 'Send one of the two, as its slug.');
  end if;

  if package is not null then
    select * into sold from public.credit_packages as p where p.slug = package and p.currency = wanted and p.active;
    if not found then
      perform credits.fail(
        'PT404', 'There is no such package in that currency.',
        jsonb_build_object('package', left(package, 100), 'currency', left(wanted, 10)),
        'The packages on sale are the rows of credit_packages.'
      );
    elsif
      sold.subscribers_only and not exists (
        select from public.subscriptions as s
        where
          s.account_id = account
          and s.status in ('trialing', 'active')
          and not credits.is_second_subscription(s.account_id, s.id)
      )
    then
      perform credits.fail(
        'PT403', 'This package is for subscribers.', jsonb_build_object('package', package), 'Subscribe to a plan first.'
      );
    end if;
    allotment := sold.credits;
    most := coalesce(sold.max_quantity, settings.max_packages);
    price_id := sold.stripe_price_id;
  else
    select * into offered from public.subscription_plans as p where p.slug = plan and p.currency = wanted and p.active;
    if not found then
      perform credits.fail(
        'PT404', 'There is no such plan in that currency.',
        jsonb_build_object('plan', left(plan, 100), 'currency', left(wanted, 10)),
        'The plans on offer are the rows of subscription_plans.'
      );
    elsif exists (
      select from public.subscriptions as s
      where s.account_id = account and credits.is_live(s)
    ) then
      perform credits.fail(
        'PT409', 'You have a subscription already.', '{}', 'Change or cancel it in the billing portal.'
      );
    end if;
    -- One trial an address, as one bonus.
    if
      not exists (
        select from credits.accounts_of_mailbox(account) as m (account_id)
        inner join public.subscriptions as s on m.account_id = s.account_id
      )
    then
      trial := offered.trial_days;
    end if;
    allotment := offered.credits;
    most := case when trial is null then offered.max_quantity else 1 end;
    price_id := offered.stripe_price_id;
  end if;

  if quantity is null or quantity not between 1 and most then
    perform credits.fail(
      'PT400',
      case when most = 1 then 'quantity must be 1.' else format('quantity must be a whole number from 1 to %s.', most) end,
      jsonb_build_object('quantity', quantity, 'limit', most), 'Leave it out for 1.'
    );
  elsif allotment * quantity > settings.max_grant then
    perform credits.fail(
      'PT400', format('At most %s credits can be bought at once.', settings.max_grant),
      jsonb_build_object('credits', allotment * quantity, 'limit', settings.max_grant), 'Buy fewer.'
    );
  end if;

  if price_id is not null then
    select * into checked
    from credits.stripe_prices as s
    where s.id = price_id and s.checked_at > credits.now() - interval '5 minutes';
    -- The row as it is now: what was checked before it was edited says nothing.
    if found then
      differences := credits.price_differences(
        checked.price, wanted, coalesce(sold.unit_amount, offered.unit_amount), offered.interval,
        offered.interval_count, true
      );
    end if;
    if differences <> '{}' then
      perform credits.fail(
        'PT409', 'This cannot be bought at the moment: its price here and in Stripe differ.',
        jsonb_build_object('price', price_id, 'differences', differences),
        'The operator has to correct the row or its Stripe Price.'
      );
    end if;
    item := jsonb_build_object('price', price_id);
  else
    item := jsonb_build_object(
      'price_data', jsonb_build_object(
        'currency', sold.currency, 'unit_amount', sold.unit_amount, 'product_data', jsonb_build_object('name', sold.name)
      )
    );
  end if;
  if price_id is null or differences is not null then
    perform credits.count_checkout(account);
  end if;

  metadata := case
    when package is not null then jsonb_build_object(
      'account_id', account::text, 'package', sold.slug, 'quantity', quantity::text,
      'credits', (sold.credits * quantity)::text
    )
    else jsonb_build_object('account_id', account::text, 'plan', offered.slug)
  end;
  select * into customer from credits.stripe_customers as c where c.account_id = account;
  return jsonb_build_object(
    'mode', case when package is not null then 'payment' else 'subscription' end,
    'account_id', account,
    'customer_id', customer.customer_id,
    'email', credits.email_to_tell(me, null),
    'tell_email', credits.email_to_tell(me, customer.email_hash) is not null,
    'line_item', item || jsonb_build_object('quantity', quantity),
    'currency', wanted,
    'metadata', metadata,
    'trial_period_days', trial,
    'trial_without_card', trial is not null and offered.trial_without_card,
    'allow_promotion_codes', settings.allow_promotion_codes,
    'automatic_tax', settings.automatic_tax,
    'tax_id_collection', settings.tax_id_collection,
    'billing_address_collection', settings.billing_address_collection,
    'check_price', case when differences is null then price_id end,
    'open_checkouts', case
      when plan is not null then (
        select coalesce(
          jsonb_agg(
            jsonb_build_object('id', c.session_id, 'request', c.request) order by c.created_at desc, c.session_id desc
          ),
          '[]'
        )
        from credits.plan_checkouts as c
        where c.account_id = account and c.closed_at is null and c.expires_at > credits.now()
      )
    end
  );
end
$$;

comment on function public.prepare_checkout(text, text, integer, text) is
'What a Checkout session for the signed-in user has to say, from the rows of credit_packages or subscription_plans: '
'{mode, account_id, customer_id, email, tell_email, line_item, currency, metadata, trial_period_days, '
'trial_without_card, allow_promotion_codes, automatic_tax, tax_id_collection, billing_address_collection, '
'check_price, open_checkouts}. The credits are pinned in the metadata. tell_email: whether Stripe has yet to be told '
'the address. check_price: a Price to ask Stripe for and to tell to note_stripe_price; then ask here again. '
'open_checkouts: sessions for plans that may be open still. currency: ISO 4217; default '
'billing_settings.default_currency. Errors: PT400 bad argument, PT403 not signed in, frozen, or for subscribers only, '
'PT404 unknown package or plan, PT409 subscribed already, or the price here and in Stripe differ, PT429 too many '
'(details: limit, retry_after).';

grant execute on function public.prepare_checkout(text, text, integer, text) to authenticated;
