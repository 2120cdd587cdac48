create function credits.ingest_stripe_event(event jsonb) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  event_id text := event ->> 'id';
  object jsonb := event #> '{data,object}';
  settings credits.billing_settings;
  known credits.stripe_event_status;
  kind text := object ->> 'object';
  outcome record;
  result credits.stripe_event_status;
  refresh text;
  second text;
begin
  if
    jsonb_typeof(event) is distinct from 'object'
    or event ->> 'object' is distinct from 'event'
    or coalesce(event_id, '') !~ '^evt_[A-Za-z0-9_]{1,200}$'
    or jsonb_typeof(event -> 'type') is distinct from 'string'
    or jsonb_typeof(event -> 'livemode') is distinct from 'boolean'
    or jsonb_typeof(object) is distinct from 'object'
  then
    perform credits.fail(
      'PT400', 'This is not a Stripe event.', '{}', 'Send the body of a webhook request as it came.'
    );
  end if;

  perform credits.lock_stripe_object(event_id);
  select e.status into known from credits.stripe_events as e where e.id = event_id;
  if known in ('applied', 'ignored', 'dismissed') then
    return jsonb_build_object('status', 'duplicate', 'reason', null, 'refresh', null, 'second', null);
  end if;

  select * into settings from credits.billing_settings;
  if (event ->> 'livemode')::boolean <> settings.stripe_livemode then
    select 'quarantined' as status, case
      when settings.stripe_livemode then 'A test event, and billing_settings.stripe_livemode is true.'
      else 'A live event, and billing_settings.stripe_livemode is false.'
    end as reason into outcome;
  elsif event ->> 'account' is distinct from settings.stripe_account then
    select 'quarantined' as status, 'From another account than billing_settings.stripe_account.' as reason into outcome;
  elsif coalesce(event ->> 'api_version', '') !~ '^20[0-9]{2}-[0-9]{2}-[0-9]{2}' or event ->> 'api_version' < '2025-03-31' then
    select
      'quarantined' as status,
      'Written in an API version before 2025-03-31; give the webhook endpoint a newer one.' as reason
    into outcome;
  else
    outcome := credits.try_stripe_object(object, event ->> 'type');
  end if;

  result := (
    case when outcome.status in ('changed', 'unchanged') then 'applied' else outcome.status end
  )::credits.stripe_event_status;
  if known is null then
    insert into credits.stripe_events (id, type, api_version, status, reason, payload)
    values (
      event_id, event ->> 'type', event ->> 'api_version', result, outcome.reason,
      -- Most of another app's on the same Stripe account; nobody reads it again.
      case when result <> 'ignored' then event end
    );
  else
    update credits.stripe_events as e
    set
      status = result,
      reason = outcome.reason,
      payload = case when result <> 'ignored' then event end,
      attempts = e.attempts + 1,
      processed_at = credits.now()
    where e.id = event_id;
  end if;
  -- Asked only where it may be so: in one expression, all of it would be planned anew for every event.
  if kind = 'subscription' then
    select s.id into refresh
    from credits.stripe_objects as o
    inner join public.subscriptions as s on o.account_id = s.account_id and o.id = s.id
    where o.id = object ->> 'id' and s.refresh_wanted;
  elsif kind = 'invoice' and result = 'quarantined' and object #> '{lines,has_more}' = 'true' then
    refresh := object ->> 'id';
  end if;
  if kind in ('subscription', 'invoice') then
    select s.subscription_id into second
    from credits.stripe_objects as o
    inner join credits.second_subscriptions as s on o.account_id = s.account_id and o.id = s.subscription_id
    where
      o.id = coalesce(credits.stripe_id(object #> '{parent,subscription_details,subscription}'), object ->> 'id')
      and (s.outcome is null or s.outcome = 'refunded');
  end if;
  return jsonb_build_object('status', result, 'reason', outcome.reason, 'refresh', refresh, 'second', second);
end
$$;

comment on function credits.ingest_stripe_event(jsonb) is
'Stores a verified Stripe event and its effects in one transaction, once: returns {status, reason, refresh, second}. '
'status is applied, ignored, duplicate, quarantined or failed; refresh names a subscription or an invoice that has to '
'be asked for, second a subscription that came second and has to be cancelled. An event that was quarantined or '
'failed is tried again when it comes again. PT400 for what is no event.';

create function public.ingest_stripe_event(jsonb) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return credits.ingest_stripe_event($1);
end
$$;

comment on function public.ingest_stripe_event(jsonb) is
'For the function stripe-webhook: credits.ingest_stripe_event. The event is the whole body of the request.';

grant execute on function public.ingest_stripe_event(jsonb) to service_role;
