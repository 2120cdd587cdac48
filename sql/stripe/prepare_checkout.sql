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
  settings credits.billing_settings;
  wanted text;
  sold public.credit_packages;
  offered public.subscription_plans;
  item jsonb;
  metadata jsonb;
begin
  select * into settings from credits.billing_settings;
  wanted := coalesce(lower(currency), settings.default_currency);
  if num_nonnulls(package, plan) <> 1 then
    perform credits.fail('PT400', 'Name a package or a plan.', '{}', 'Send one of the two, as its slug.');
  elsif quantity is null or quantity not between 1 and 1000 then
    perform credits.fail(
      'PT400', 'quantity must be a whole number from 1 to 1000.', jsonb_build_object('quantity', quantity),
      'Leave it out for 1.'
    );
  end if;

  if package is not null then
    select * into sold from public.credit_packages as p where p.slug = package and p.currency = wanted and p.active;
    if not found then
      perform credits.fail(
        'PT404', 'There is no such package in that currency.',
        jsonb_build_object('package', left(package, 100), 'currency', left(wanted, 10)),
        'The packages on sale are the rows of credit_packages.'
      );
    elsif sold.credits * quantity > settings.max_grant then
      perform credits.fail(
        'PT400', format('At most %s credits can be bought at once.', settings.max_grant),
        jsonb_build_object('credits', sold.credits * quantity, 'limit', settings.max_grant), 'Buy fewer.'
      );
    end if;
    item := case
      when sold.stripe_price_id is not null then jsonb_build_object('price', sold.stripe_price_id)
      else jsonb_build_object(
        'price_data', jsonb_build_object(
          'currency', sold.currency, 'unit_amount', sold.unit_amount,
          'product_data', jsonb_build_object('name', sold.name)
        )
      )
    end;
    metadata := jsonb_build_object(
      'account_id', account::text, 'package', sold.slug, 'quantity', quantity::text,
      'credits', (sold.credits * quantity)::text
    );
  else
    select * into offered from public.subscription_plans as p where p.slug = plan and p.currency = wanted and p.active;
    if not found then
      perform credits.fail(
        'PT404', 'There is no such plan in that currency.',
        jsonb_build_object('plan', left(plan, 100), 'currency', left(wanted, 10)),
        'The plans on offer are the rows of subscription_plans.'
      );
    elsif offered.credits * quantity > settings.max_grant then
      perform credits.fail(
        'PT400', format('At most %s credits can be bought at once.', settings.max_grant),
        jsonb_build_object('credits', offered.credits * quantity, 'limit', settings.max_grant), 'Buy fewer.'
      );
    elsif exists (
      select from public.subscriptions as s
      where
        s.account_id = account
        and s.status in ('trialing', 'active', 'past_due', 'unpaid', 'paused')
    ) then
      perform credits.fail(
        'PT409', 'You have a subscription already.', '{}', 'Change or cancel it in the billing portal.'
      );
    end if;
    item := jsonb_build_object('price', offered.stripe_price_id);
    metadata := jsonb_build_object('account_id', account::text, 'plan', offered.slug);
  end if;

  return jsonb_build_object(
    'mode', case when package is not null then 'payment' else 'subscription' end,
    'account_id', account,
    'customer_id', (select c.customer_id from credits.stripe_customers as c where c.account_id = account),
    'line_item', item || jsonb_build_object('quantity', quantity),
    'metadata', metadata,
    -- One trial an account.
    'trial_period_days', case
      when not exists (select from public.subscriptions as s where s.account_id = account)
        then offered.trial_days
    end
  );
end
$$;

comment on function public.prepare_checkout(text, text, integer, text) is
'What a Checkout session for the signed-in user has to say, from the rows of credit_packages or subscription_plans: '
'{mode, account_id, customer_id, line_item, metadata, trial_period_days}. The credits are pinned in the metadata. '
'currency: ISO 4217; default billing_settings.default_currency. Errors: PT400 bad argument, PT403 not signed in, PT404 '
'unknown package or plan, PT409 subscribed already.';

grant execute on function public.prepare_checkout(text, text, integer, text) to authenticated;
