create function credits.hold_at_price(
  account_id uuid,
  operation text,
  quantity integer,
  unit_price numeric,
  price_version bigint,
  amount bigint,
  lifetime interval,
  idempotency_key text,
  hash bytea,
  metadata jsonb,
  is_limited boolean
) returns public.credit_holds
language plpgsql
set search_path = ''
as $$
declare
  account record;
  refusal jsonb;
  hold public.credit_holds;
begin
  loop
    update public.credit_accounts as a
    set
      held = a.held + amount,
      available = a.available - amount,
      next_expiry = least(a.next_expiry, credits.now() + lifetime),
      has_keyed_holds = a.has_keyed_holds or hold_at_price.idempotency_key is not null,
      updated_at = credits.entry_moment(a.next_expiry)
    where
      a.id = hold_at_price.account_id
      and a.available >= amount
      and a.frozen_at is null
      and not credits.is_due(a.next_expiry)
      and (hold_at_price.idempotency_key is null or credits.key_is_new(a.id, hold_at_price.idempotency_key))
      and (not is_limited or credits.hold_refusal(a.id) is null)
    returning a.id, a.updated_at, a.next_expiry, a.updated_at + lifetime as expires_at into account;
    exit when found;

    hold := credits.replayed_hold(account_id, idempotency_key, hash);
    if hold.id is not null then
      return hold;
    elsif amount is null then
      return null;
    end if;
    perform credits.make_spendable(account_id, amount);
    -- With the lock, which make_spendable took.
    refusal := case when is_limited then credits.hold_refusal(account_id) end;
    if refusal is not null then
      perform credits.fail('PT429', refusal ->> 'message', refusal - 'message', 'Wait, or let open holds end.');
    end if;
  end loop;

  insert into public.credit_holds (
    account_id, operation, quantity, unit_price, price_version, amount, expires_at, idempotency_key, request_hash,
    metadata, created_at
  )
  values (
    account.id, hold_at_price.operation, hold_at_price.quantity, hold_at_price.unit_price,
    hold_at_price.price_version, amount, account.expires_at, hold_at_price.idempotency_key, hash,
    hold_at_price.metadata, account.updated_at
  )
  returning * into hold;

  -- The clock may have moved on between the two columns that the UPDATE set from it.
  if account.next_expiry > hold.expires_at then
    update public.credit_accounts as a set next_expiry = hold.expires_at where a.id = account.id;
  end if;
  perform credits.prune_unused_holds(account.id, (select s.max_unused_holds from credits.billing_settings as s));
  return hold;
end
$$;

comment on function credits.hold_at_price is
'Reserves amount credits of the account, ceil(unit_price * quantity), in a hold that pins unit_price; returns the '
'hold, or the one that the same key and hash made before. Null for a new request without an amount: then the caller '
'says what is wrong with it. The one place that makes holds; what they cost is for the caller to know, never for a '
'client to say. is_limited: whether billing_settings.max_holds_per_minute and max_open_holds apply; generations have '
'limits of their own. Errors: PT402, PT403, PT409, PT429.';
