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
  settings credits.billing_settings;
  lifetime interval;
  price record;
  hash bytea;
  account record;
  hold public.credit_holds;
begin
  perform credits.check_metadata(metadata);
  select * into settings from credits.billing_settings;
  lifetime := coalesce(ttl, settings.hold_ttl);
  if not (lifetime > '0' and lifetime <= settings.hold_ttl_max) then
    perform credits.fail(
      'PT400', format('ttl must be over 0 and at most %s.', settings.hold_ttl_max),
      jsonb_build_object('ttl', ttl, 'limit', settings.hold_ttl_max), 'Leave ttl out for the usual one.'
    );
  end if;

  hash := credits.keyed_hash(idempotency_key, 'hold_credits', operation, quantity::text, ttl::text, metadata::text);
  select * into price from credits.price(operation, quantity);

  loop
    update public.credit_accounts as a
    set
      held = a.held + price.credits,
      available = a.available - price.credits,
      next_expiry = least(a.next_expiry, credits.now() + lifetime),
      updated_at = least(credits.now(), a.next_expiry - interval '1 microsecond')
    where
      a.user_id = me
      and a.available >= price.credits
      and a.frozen_at is null
      and (a.next_expiry is null or a.next_expiry > credits.now())
      and (hold_credits.idempotency_key is null or credits.key_is_new(a.id, hold_credits.idempotency_key))
    returning a.id, a.updated_at, a.next_expiry, a.updated_at + lifetime as expires_at into account;
    exit when found;

    hold := (credits.replayed(credits.open_account(me), idempotency_key, hash)).hold;
    if hold.id is not null then
      return hold;
    elsif price.credits is null then
      perform credits.refuse_price(operation, quantity);
    end if;
    perform credits.make_spendable(me, price.credits);
  end loop;

  insert into public.credit_holds (
    account_id, operation, quantity, unit_price, price_version, amount, expires_at, idempotency_key, request_hash,
    metadata, created_at
  )
  values (
    account.id, hold_credits.operation, hold_credits.quantity, price.credits_per_unit, price.version, price.credits,
    account.expires_at, hold_credits.idempotency_key, hash, hold_credits.metadata, account.updated_at
  )
  returning * into hold;

  -- The clock may have moved on between the two columns that the UPDATE set from it.
  if account.next_expiry > hold.expires_at then
    update public.credit_accounts as a set next_expiry = hold.expires_at where a.id = account.id;
  end if;
  return hold;
end
$$;

comment on function public.hold_credits(text, integer, text, interval, jsonb) is
'Reserves the signed-in user''s credits for quantity units of the operation and pins the price; returns the hold. It '
'lives for ttl (default and longest: billing_settings). With idempotency_key a repeat returns the same hold as it is '
'now. Errors as consume_credits; PT400 also for ttl.';

grant execute on function public.hold_credits(text, integer, text, interval, jsonb) to authenticated;
