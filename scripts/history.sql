-- What users did in the days before: one transaction of `scripts/demo --history`, which sets history.users, .days,
-- .seed and .password (a bcrypt hash). Everything goes through the ledger's own functions, with the clock at the moment at
-- which it would have happened: credits.now() is replaced, seen by this transaction alone, and is as it was before the
-- commit. Defaults that read the wall clock are set back row by row. The same seed does the same.
create or replace function credits.now() returns timestamptz
language sql
volatile
as $$
  select current_setting('history.now')::timestamptz;
$$;

create function pg_temp.at(moment timestamptz) returns void
language sql
as $$
  select set_config('history.now', moment::text, true);
$$;

create function pg_temp.act_as(role text, who uuid default null) returns void
language sql
as $$
  select set_config(
    'request.jwt.claims',
    jsonb_build_object('role', role, 'sub', who, 'aud', 'authenticated', 'exp', 9999999999)::text, true
  );
$$;

-- A webhook of Stripe's.
create function pg_temp.tell(kind text, number text, object jsonb) returns void
language plpgsql
as $$
declare
  answer jsonb;
begin
  perform pg_temp.act_as('service_role');
  answer := public.ingest_stripe_event(jsonb_build_object(
    'id', 'evt_history_' || number, 'object', 'event', 'type', kind, 'api_version', '2026-08-26.dahlia',
    'livemode', false, 'created', extract(epoch from credits.now())::bigint,
    'data', jsonb_build_object('object', object)
  ));
  if answer ->> 'status' <> 'applied' then
    raise exception 'Stripe''s % % was not applied: %', kind, number, answer;
  end if;
end
$$;

-- A period of a subscription, paid.
create function pg_temp.renew(
  account_id uuid, number text, period integer, plan public.subscription_plans, since timestamptz
) returns void
language plpgsql
as $$
declare
  began bigint := extract(epoch from since);
  ends bigint := extract(epoch from since + interval '30 days');
  sub text := 'sub_history_' || number;
  id text := number || '_' || period;
  belongs jsonb := jsonb_build_object('account_id', account_id, 'plan', plan.slug);
  kind text := case when period = 0 then 'created' else 'updated' end;
begin
  perform pg_temp.tell('customer.subscription.' || kind, 'sub_' || id, jsonb_build_object(
    'id', sub, 'object', 'subscription', 'status', 'active', 'customer', 'cus_history_' || number, 'metadata', belongs,
    'latest_invoice', 'in_history_' || id, 'pause_collection', null,
    'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object(
      'price', jsonb_build_object('id', plan.stripe_price_id), 'quantity', 1,
      'current_period_start', began, 'current_period_end', ends
    )))
  ));
  perform pg_temp.tell('invoice.paid', 'in_' || id, jsonb_build_object(
    'id', 'in_history_' || id, 'object', 'invoice', 'status', 'paid', 'attempt_count', 1,
    'billing_reason', case when period = 0 then 'subscription_create' else 'subscription_cycle' end,
    'amount_due', plan.unit_amount, 'amount_paid', plan.unit_amount, 'currency', plan.currency,
    'customer', 'cus_history_' || number,
    'parent', jsonb_build_object('type', 'subscription_details', 'subscription_details', jsonb_build_object(
      'subscription', sub, 'metadata', belongs
    )),
    'lines', jsonb_build_object('object', 'list', 'has_more', false, 'data', jsonb_build_array(jsonb_build_object(
      'id', 'il_history_' || id, 'object', 'line_item', 'amount', plan.unit_amount, 'currency', plan.currency,
      'quantity', 1, 'period', jsonb_build_object('start', began, 'end', ends),
      'parent', jsonb_build_object(
        'type', 'subscription_item_details',
        'subscription_item_details', jsonb_build_object('subscription', sub, 'proration', false)
      ),
      'pricing', jsonb_build_object('price_details', jsonb_build_object('price', plan.stripe_price_id))
    )))
  ));
end
$$;

-- A package, paid; now and then the money goes back.
create function pg_temp.buy(account_id uuid, number text, package public.credit_packages) returns void
language plpgsql
as $$
begin
  perform pg_temp.tell('checkout.session.completed', 'cs_' || number, jsonb_build_object(
    'id', 'cs_history_' || number, 'object', 'checkout.session', 'mode', 'payment', 'status', 'complete',
    'payment_status', 'paid', 'amount_total', package.unit_amount, 'currency', package.currency, 'customer', null,
    'payment_intent', 'pi_history_' || number,
    'metadata', jsonb_build_object(
      'account_id', account_id, 'package', package.slug, 'quantity', '1', 'credits', package.credits::text
    )
  ));
end
$$;

create function pg_temp.money_back(number text, amount bigint, currency text) returns void
language sql
as $$
  select pg_temp.tell('refund.created', 're_' || number, jsonb_build_object(
    'id', 're_history_' || number, 'object', 'refund', 'status', 'succeeded', 'amount', amount, 'currency', currency,
    'payment_intent', 'pi_history_' || number
  ));
$$;

do $$
declare
  seed constant text := current_setting('history.seed');
  days constant integer := current_setting('history.days');
  began constant timestamptz := clock_timestamp();
  today constant date := (began at time zone 'UTC')::date;
  opening constant timestamptz := (today - days - 1)::timestamp at time zone 'UTC';
  -- Sunday first: what people do at home, and what they do at work.
  leisure constant float[] := array[1.5, 0.8, 0.8, 0.9, 0.9, 1.1, 1.6];
  work constant float[] := array[0.2, 1.3, 1.4, 1.4, 1.3, 1.0, 0.3];
  zones constant text[] := array['Europe/Berlin', 'America/New_York', 'Asia/Tokyo', 'Asia/Kolkata'];
  operations text[] := (
    select array_agg(t.operation order by t.operation)
    from public.pricing_tiers as t
    where t.id = credits.price_in_force_id(t.operation)
  );
  packages public.credit_packages[] := (
    select array_agg(p order by p.credits) from public.credit_packages as p
    where p.active and p.currency = 'usd' and not p.subscribers_only
  );
  plan public.subscription_plans;
  package public.credit_packages;
  who uuid;
  account uuid;
  moment timestamptz;
  number text;
  joined date;
  day date;
  appetite float;
  is_worker boolean;
  likes integer[];
  times float[];
  chance float;
  bought integer;
  paid_back jsonb;
  wanted text;
  units integer;
  cost bigint;
  spare bigint;
  hold public.credit_holds;
  entry public.credit_transactions;
begin
  perform setseed(('x' || left(md5(seed), 8))::bit(32)::bigint::float / 4294967296.0);
  if operations is null or packages is null then
    raise exception 'There is nothing on sale: load supabase/seed.sql first.';
  end if;

  -- Today's prices counted then as well.
  insert into public.pricing_tiers (operation, provider, model, unit, credits_per_unit, effective_from, metadata, terms)
  select t.operation, t.provider, t.model, t.unit, t.credits_per_unit, opening, t.metadata, t.terms
  from public.pricing_tiers as t
  where
    t.id = credits.price_in_force_id(t.operation)
    and not exists (
      select from public.pricing_tiers as o
      where o.operation = t.operation and o.active and o.effective_from <= opening
    )
  order by t.operation;

  select * into plan from public.subscription_plans as p where p.slug = 'history' limit 1;
  if not found then
    -- Not on sale: Stripe has no such Price.
    insert into public.subscription_plans (slug, name, credits, unit_amount, stripe_price_id, active)
    values ('history', 'Creator', 400, 2900, 'price_history', false)
    returning * into plan;
  end if;

  for n in 1 .. current_setting('history.users')::integer loop
    who := md5(format('history %s %s', seed, n))::uuid;
    number := format('%s_%s', seed, n);
    joined := today - days + floor(days * 0.8 * random() ^ 2)::integer;
    -- Most do a little, a few a lot.
    appetite := least(12, 0.6 * exp(1.1 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())));
    is_worker := random() < 0.4;
    likes := array[
      1 + floor(random() * cardinality(operations)), 1 + floor(random() * cardinality(operations)),
      1 + floor(random() * cardinality(operations))
    ];
    bought := 0;
    paid_back := null;
    moment := joined::timestamp at time zone 'UTC' + interval '8 hours' * random();
    perform pg_temp.at(moment);
    insert into auth.users (
      instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, raw_app_meta_data, raw_user_meta_data,
      created_at, updated_at, confirmation_token, recovery_token, email_change_token_new, email_change
    )
    values (
      '00000000-0000-0000-0000-000000000000', who, 'authenticated', 'authenticated',
      format('user%s-%s@history.example', lpad(n::text, 2, '0'), seed), current_setting('history.password'), moment,
      '{"provider": "email", "providers": ["email"]}', '{"email_verified": true}', moment, moment, '', '', '', ''
    );
    insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
    select
      u.id::text, u.id, jsonb_build_object('sub', u.id, 'email', u.email, 'email_verified', true), 'email',
      moment, moment, moment
    from auth.users as u
    where u.id = who;
    account := credits.account_of(who);
    if random() < 0.5 then
      perform pg_temp.act_as('authenticated', who);
      perform public.set_time_zone(zones[1 + floor(random() * cardinality(zones))]);
    end if;

    day := joined;
    while day <= today loop
      -- A subscriber's period; one in two leaves after the second.
      if n % 4 = 0 and (day - joined) % 30 = 2 and (n % 8 = 0 or day - joined < 60) then
        moment := greatest(moment, day::timestamp at time zone 'UTC' + interval '9 hours');
        exit when moment > began;
        perform pg_temp.at(moment);
        perform pg_temp.renew(account, number, (day - joined) / 30, plan, moment);
      end if;
      -- A present that will not last.
      if random() < 0.012 then
        moment := greatest(moment, day::timestamp at time zone 'UTC' + interval '10 hours');
        exit when moment > began;
        perform pg_temp.at(moment);
        perform pg_temp.act_as('service_role');
        perform public.grant_credits(who, 20, 'promo', moment + interval '14 days', 10);
      end if;
      if (paid_back ->> 'on')::date <= day then
        moment := greatest(moment, day::timestamp at time zone 'UTC' + interval '11 hours');
        exit when moment > began;
        perform pg_temp.at(moment);
        perform pg_temp.money_back(paid_back ->> 'number', (paid_back ->> 'amount')::bigint, 'usd');
        paid_back := null;
      end if;

      -- How often today: Poisson, around the weekday's share of what this user does, more of it the longer they stay.
      times := array[]::float[];
      chance := exp(
        -appetite * (case when is_worker then work else leisure end)[1 + extract(dow from day)::integer]
        * (0.7 + 0.6 * (day - joined)::float / days) * case when random() < 0.2 then 0.1 else 1 end
      );
      cost := 0;
      loop
        chance := chance / greatest(random(), 1e-9);
        exit when chance > 1 or cardinality(times) = 40;
        times := times || random();
      end loop;
      times := array(select t.t from unnest(times) as t (t) order by t.t);

      for i in 1 .. cardinality(times) loop
        moment := greatest(
          moment + interval '1 second',
          day::timestamp at time zone 'UTC' + interval '7 hours' + interval '15 hours' * times[i]
        );
        exit when moment > began;
        perform pg_temp.at(moment);
        perform pg_temp.act_as('authenticated', who);
        wanted := operations[likes[1 + floor(3 * random() ^ 2)]];
        units := 1 + floor(2.5 * random() ^ 3);
        cost := (credits.price(wanted, units)).credits;
        if (select a.next_expiry <= moment from public.credit_accounts as a where a.id = account) then
          perform credits.lock_account(account);
        end if;
        select a.available into spare from public.credit_accounts as a where a.id = account;
        if spare < cost then
          -- Some come back with money, the others another day.
          continue when random() < 0.6;
          bought := bought + 1;
          package := packages[least(cardinality(packages), 1 + floor(appetite / 2 + random()))];
          perform pg_temp.buy(account, number || '_' || bought, package);
          if random() < 0.04 and paid_back is null then
            paid_back := jsonb_build_object(
              'on', day + 3, 'number', number || '_' || bought, 'amount', package.unit_amount / 2
            );
          end if;
          perform pg_temp.act_as('authenticated', who);
          -- What a refund of money took below zero is paid first.
          continue when (select a.available < cost from public.credit_accounts as a where a.id = account);
        end if;
        if random() < 0.3 then
          hold := public.hold_credits(wanted, units);
          moment := moment + interval '30 seconds' * random();
          perform pg_temp.at(moment);
          perform pg_temp.act_as('service_role');
          -- Not all that was asked for comes; of some nothing.
          if random() < 0.06 then
            perform public.release_hold(account, hold.id, 'provider failed');
            continue;
          end if;
          entry := public.capture_hold(account, hold.id, greatest(1, units - floor(1.1 * random())::integer));
        else
          entry := public.consume_credits(wanted, units);
        end if;
        perform credits.log_usage(
          account, h.new ->> 'provider', h.new ->> 'model', wanted, entry.quantity, 'succeeded',
          (800 + 9000 * random())::integer, hold_id => entry.hold_id, transaction_id => entry.id
        )
        from credits.pricing_tier_history as h
        where h.version = entry.price_version;
        update credits.usage_logs as u set created_at = moment
        where u.account_id = account and u.transaction_id = entry.id;
        if random() < 0.02 then
          moment := moment + interval '2 hours' * random();
          exit when moment > began;
          perform pg_temp.at(moment);
          perform pg_temp.act_as('service_role');
          perform public.refund(account, entry.id, reason => 'not as ordered');
        end if;
      end loop;
      exit when moment > began;
      -- As maintenance does, which there is none of in between: what expired is written, and what waits is settled.
      if (day - joined) % 30 = 0 then
        perform credits.lock_account(account);
      end if;
      day := day + 1;
    end loop;
    perform pg_temp.at(began);
    perform credits.lock_account(account);

    update public.credit_accounts as a set created_at = u.created_at
    from auth.users as u
    where a.id = account and a.user_id = u.id;
    update credits.account_addresses as d set noted_at = a.created_at
    from public.credit_accounts as a
    where d.account_id = account and a.id = account;
    update credits.account_zones as z set changed_on = joined, changes = 0 where z.account_id = account;
    update public.purchases as p set created_at = t.created_at, updated_at = t.created_at
    from credits.purchase_grants as g
    inner join public.credit_transactions as t on g.account_id = t.account_id and g.transaction_id = t.id
    where p.account_id = account and g.account_id = account and g.purchase_id = p.id;
    update public.subscriptions as s set created_at = a.created_at, updated_at = least(s.current_period_end, began)
    from public.credit_accounts as a
    where s.account_id = account and a.id = account;
    update credits.stripe_customers as c set created_at = a.created_at
    from public.credit_accounts as a
    where c.account_id = account and a.id = account;
  end loop;
  update credits.stripe_events as e
  set
    received_at = to_timestamp((e.payload ->> 'created')::bigint),
    processed_at = to_timestamp((e.payload ->> 'created')::bigint)
  where e.id like 'evt_history_%' and e.received_at >= began;
end
$$;
