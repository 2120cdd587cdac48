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
declare
  me uuid := credits.caller();
  account_id uuid;
  seen record;
  last_entry_seen bigint;
  price record;
  account record;
  entry public.credit_transactions;
begin
  if metadata is distinct from '{}' then
    perform credits.check_metadata(metadata);
  end if;
  if credits.check_key(idempotency_key) is not null then
    -- A repeat ends here, and writes nothing. A subquery, not a join: planned while few rows have keys, that would read
    -- all keys for one, and the plan is kept.
    select
      a.last_entry,
      (
        select t from public.credit_transactions as t
        where t.account_id = a.id and t.idempotency_key = consume_credits.idempotency_key
      ) as entry
    into seen
    from public.credit_accounts as a
    where a.user_id = me;
    if (seen.entry).id is not null then
      return credits.repeated_spend(seen.entry, operation, quantity, metadata);
    end if;
    last_entry_seen := seen.last_entry;
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
      -- The key is still new where no ledger row came after the look-up above and no hold has a key. Else it is looked
      -- up once more, in a function: a subquery here would be part of the plan of all spends.
      and (
        consume_credits.idempotency_key is null
        or (a.last_entry = last_entry_seen and not a.has_keyed_holds)
        or credits.key_is_new(a.id, consume_credits.idempotency_key)
      )
    returning a.id, a.last_entry, a.balance, a.updated_at into account;
    if found then
      insert into public.credit_transactions (
        account_id, id, kind, amount, balance_after, operation, quantity, unit_price, price_version, actor,
        idempotency_key, metadata, created_at
      )
      values (
        account.id, account.last_entry, 'spend', -price.credits, account.balance, operation, quantity,
        price.credits_per_unit, price.version, 'authenticated', idempotency_key, metadata, account.updated_at
      )
      returning * into entry;
      exit;
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
