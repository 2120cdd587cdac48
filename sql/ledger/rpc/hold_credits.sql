create function public.hold_credits(
  operation text,
  quantity integer default 1,
  idempotency_key text default null,
  ttl interval default null,
  metadata jsonb default '{}'
) returns public.credit_holds
language plpgsql
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  account_id uuid;
  settings credits.billing_settings;
  lifetime interval;
  longest interval;
  price record;
  hash bytea;
  hold public.credit_holds;
begin
  perform credits.check_metadata(metadata);
  select * into settings from credits.billing_settings;
  -- Moments are compared, and the hold lives as long whenever it begins.
  lifetime := credits.lasting(coalesce(ttl, settings.hold_ttl), credits.now());
  longest := credits.lasting(settings.hold_ttl_max, credits.now());
  if not coalesce(lifetime between '1 second' and longest, false) then
    perform credits.fail(
      'PT400', format('ttl must be from 1 second to %s.', settings.hold_ttl_max),
      jsonb_build_object('ttl', ttl, 'limit', settings.hold_ttl_max), 'Leave ttl out for the usual one.'
    );
  end if;

  hash := credits.keyed_hash(idempotency_key, 'hold_credits', operation, quantity::text, ttl::text, metadata::text);
  select * into price from credits.price(operation, quantity);
  account_id := coalesce(credits.account_of(me), credits.open_account(me));
  hold := credits.hold_at_price(
    account_id, operation, quantity, price.credits_per_unit, price.version, price.credits, lifetime, idempotency_key, hash,
    metadata, is_limited => true
  );
  if hold.id is null then
    perform credits.refuse_price(operation, quantity);
  end if;
  return hold;
end
$$;

comment on function public.hold_credits(text, integer, text, interval, jsonb) is
'Reserves the signed-in user''s credits for quantity units of the operation and pins the price; returns the hold. It '
'lives for ttl, 1 second or more (default and longest: billing_settings). With idempotency_key a repeat returns the '
'same hold as it is now. Errors as consume_credits; PT400 also for ttl; PT429 beyond '
'billing_settings.max_holds_per_minute or max_open_holds (details: limit, retry_after in seconds), which a repeat '
'does not count against.';

grant execute on function public.hold_credits(text, integer, text, interval, jsonb) to authenticated;
