create function credits.make_hold(
  operation text,
  quantity integer,
  idempotency_key text,
  ttl interval,
  metadata jsonb,
  is_limited boolean
) returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  settings credits.billing_settings;
  lifetime interval;
  longest interval;
  price record;
  hash bytea;
  account record;
  refusal jsonb;
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
      and (make_hold.idempotency_key is null or credits.key_is_new(a.id, make_hold.idempotency_key))
      and (not is_limited or credits.hold_refusal(a.id) is null)
    returning a.id, a.updated_at, a.next_expiry, a.updated_at + lifetime as expires_at into account;
    exit when found;

    hold := (credits.replayed(credits.open_account(me), idempotency_key, hash)).hold;
    if hold.id is not null then
      return hold;
    elsif price.credits is null then
      perform credits.refuse_price(operation, quantity);
    end if;
    perform credits.make_spendable(me, price.credits);
    -- With the lock, which make_spendable took.
    refusal := case when is_limited then credits.hold_refusal(credits.open_account(me)) end;
    if refusal is not null then
      perform credits.fail('PT429', refusal ->> 'message', refusal - 'message', 'Wait, or let open holds end.');
    end if;
  end loop;

  insert into public.credit_holds (
    account_id, operation, quantity, unit_price, price_version, amount, expires_at, idempotency_key, request_hash,
    metadata, created_at
  )
  values (
    account.id, make_hold.operation, make_hold.quantity, price.credits_per_unit, price.version, price.credits,
    account.expires_at, make_hold.idempotency_key, hash, make_hold.metadata, account.updated_at
  )
  returning * into hold;

  -- The clock may have moved on between the two columns that the UPDATE set from it.
  if account.next_expiry > hold.expires_at then
    update public.credit_accounts as a set next_expiry = hold.expires_at where a.id = account.id;
  end if;
  perform credits.prune_unused_holds(account.id, settings.max_unused_holds);
  return hold;
end
$$;

comment on function credits.make_hold(text, integer, text, interval, jsonb, boolean) is
'hold_credits, and the hold of a generation: that has limits of its own, so those of holds do not apply to it '
'(is_limited false).';
