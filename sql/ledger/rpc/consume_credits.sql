create function public.consume_credits(
  operation text,
  quantity integer default 1,
  idempotency_key text default null,
  metadata jsonb default '{}'
) returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
-- The prices fit on one page, which the planner would read and sort for each spend; the index has them in order.
set enable_seqscan = off
as $$
-- For the target of ON CONFLICT, whose names cannot be qualified.
#variable_conflict use_column
declare
  me uuid := credits.caller();
  account_id uuid;
  price record;
  account record;
  entry public.credit_transactions;
begin
  if metadata is distinct from '{}' then
    perform credits.check_metadata(metadata);
  end if;
  if idempotency_key is not null then
    perform credits.check_key(idempotency_key);
    -- A repeat ends here, and writes nothing. A subquery, not a join: planned while few rows have keys, that would read
    -- all keys for one, and the plan is kept.
    select t.* into entry
    from public.credit_transactions as t
    where
      t.account_id = (select a.id from public.credit_accounts as a where a.user_id = me)
      and t.idempotency_key = consume_credits.idempotency_key;
    if found then
      return credits.repeated_spend(entry, operation, quantity, metadata);
    end if;
  end if;
  select * into price from credits.price(operation, quantity);

  -- Everything that needs no lock is done: the account's row is locked from here to the commit. Its user is looked up
  -- in the same statement, not by credits.account_of before it.
  loop
    update public.credit_accounts as a
    set
      balance = a.balance - price.credits,
      available = a.available - price.credits,
      lifetime_spent = a.lifetime_spent + price.credits,
      last_entry = a.last_entry + 1,
      unsettled_since = coalesce(a.unsettled_since, credits.now()),
      updated_at = credits.entry_moment(a.next_expiry)
    where
      a.user_id = me
      and a.available >= price.credits
      and a.frozen_at is null
      and a.last_entry - a.settled_through < credits.max_unsettled()
      and not credits.is_due(a.next_expiry)
      -- Of ledger rows the key is looked up above, and held against all by the INSERT. Not here: a lookup that most
      -- spends do not need would have each planned anew.
      and (
        consume_credits.idempotency_key is null
        or not a.has_keyed_holds
        or credits.key_is_new(a.id, consume_credits.idempotency_key)
      )
    returning a.id, a.last_entry, a.balance, a.updated_at into account;
    if found and idempotency_key is null then
      insert into public.credit_transactions (
        account_id, id, kind, amount, balance_after, operation, quantity, unit_price, price_version, actor, metadata,
        created_at
      )
      values (
        account.id, account.last_entry, 'spend', -price.credits, account.balance, consume_credits.operation,
        consume_credits.quantity, price.credits_per_unit, price.version, 'authenticated', consume_credits.metadata,
        account.updated_at
      )
      returning * into entry;
      exit;
    elsif found then
      insert into public.credit_transactions (
        account_id, id, kind, amount, balance_after, operation, quantity, unit_price, price_version, actor,
        idempotency_key, metadata, created_at
      )
      values (
        account.id, account.last_entry, 'spend', -price.credits, account.balance, consume_credits.operation,
        consume_credits.quantity, price.credits_per_unit, price.version, 'authenticated',
        consume_credits.idempotency_key, consume_credits.metadata, account.updated_at
      )
      on conflict (account_id, idempotency_key) where idempotency_key is not null do nothing
      returning * into entry;
      exit when found;
      -- Another session's call with this key came in between: the UPDATE is taken back.
      update public.credit_accounts as a
      set
        balance = a.balance + price.credits,
        available = a.available + price.credits,
        lifetime_spent = a.lifetime_spent - price.credits,
        last_entry = a.last_entry - 1,
        unsettled_since = case when a.last_entry - 1 > a.settled_through then a.unsettled_since end
      where a.id = account.id;
    end if;

    account_id := coalesce(credits.account_of(me), credits.open_account(me));
    entry := credits.replayed_entry(account_id, idempotency_key);
    if entry.id is not null then
      return credits.repeated_spend(entry, operation, quantity, metadata);
    elsif price.credits is null then
      perform credits.refuse_price(operation, quantity);
    end if;
    perform credits.make_spendable(account_id, price.credits);
  end loop;
  return entry;
end
$$;

comment on function public.consume_credits(text, integer, text, jsonb) is
'Spends the signed-in user''s credits on quantity units of the operation, at the price in force; returns the ledger '
'row. With idempotency_key a repeat returns the first row and charges nothing. Errors: PT400 bad argument, PT402 not '
'enough credits (details: required, available, shortfall), PT403 not signed in or frozen, PT404 unknown operation, '
'PT409 key used for another request. A refused call leaves nothing behind, its key included.';

grant execute on function public.consume_credits(text, integer, text, jsonb) to authenticated;
