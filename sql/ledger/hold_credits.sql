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
begin
  return credits.make_hold(operation, quantity, idempotency_key, ttl, metadata, is_limited => true);
end
$$;

comment on function public.hold_credits(text, integer, text, interval, jsonb) is
'Reserves the signed-in user''s credits for quantity units of the operation and pins the price; returns the hold. It '
'lives for ttl, 1 second or more (default and longest: billing_settings). With idempotency_key a repeat returns the '
'same hold as it is now. Errors as consume_credits; PT400 also for ttl; PT429 beyond '
'billing_settings.max_holds_per_minute or max_open_holds (details: limit, retry_after in seconds), which a repeat '
'does not count against.';

grant execute on function public.hold_credits(text, integer, text, interval, jsonb) to authenticated;
