create function credits.grant_to_account(
  account_id uuid,
  amount bigint,
  source public.grant_source,
  expires_at timestamptz,
  priority integer,
  idempotency_key text,
  metadata jsonb,
  cost_basis bigint default null,
  currency text default null
) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  most bigint;
  account public.credit_accounts;
  entry public.credit_transactions;
begin
  perform credits.check_metadata(metadata);
  select s.max_grant into most from credits.billing_settings as s;
  if amount is null or amount not between 1 and most then
    perform credits.fail(
      'PT400', format('amount must be a whole number of credits from 1 to %s.', most),
      jsonb_build_object('amount', amount, 'limit', most), 'The limit is billing_settings.max_grant.'
    );
  elsif priority not between 0 and 100 then
    perform credits.fail(
      'PT400', 'priority must be from 0 (burns first) to 100.', jsonb_build_object('priority', priority),
      'Leave it out for 50.'
    );
  end if;

  perform credits.check_cost(source, cost_basis, currency);

  account := credits.lock_account(account_id);
  if account.balance + amount > 1000000000000000 then
    perform credits.fail(
      'PT400', 'The balance would exceed a quadrillion credits.',
      jsonb_build_object('balance', account.balance, 'amount', amount), 'Grant less.'
    );
  end if;
  entry := credits.post_entry(
    account_id, 'grant', amount,
    idempotency_key => idempotency_key,
    metadata => metadata
  );
  -- Only now is the moment of the grant known: it may have waited for the account's lock.
  if not coalesce(isfinite(expires_at) and expires_at > entry.created_at, true) then
    perform credits.fail(
      'PT400', 'expires_at must be in the future.', jsonb_build_object('expires_at', expires_at),
      'Leave it out for credits that never expire.'
    );
  end if;
  perform credits.add_lot(
    entry, amount, source, expires_at, priority,
    cost_basis => coalesce(cost_basis, case when source in ('bonus', 'referral', 'promo') then 0 end),
    currency => lower(currency)
  );
  -- Not as a condition of the UPDATE: for that each grant would be planned anew.
  if expires_at is not null then
    update public.credit_accounts as a set next_expiry = least(a.next_expiry, grant_to_account.expires_at)
    where a.id = grant_to_account.account_id;
  end if;
  perform credits.pay_debt_from_new_credits(account_id);
  return entry;
end
$$;

comment on function credits.grant_to_account is
'Grants credits to an account as one lot; returns the ledger row. The one way credits come in: grant_credits, the '
'sign-up bonus and payments end here. cost_basis, currency: see credit_grants; given credits have 0. Locks and settles '
'the account. Errors: PT400.';
