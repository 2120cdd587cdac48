create function credits.claw_back(
  account_id uuid,
  amount bigint,
  grant_transaction_id bigint default null,
  idempotency_key text default null,
  metadata jsonb default '{}',
  cause credits.clawback_cause default 'operator',
  purchase_id bigint default null,
  other_account_id uuid default null
) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  lot_id bigint;
  account public.credit_accounts;
  entry public.credit_transactions;
begin
  perform credits.check_metadata(metadata);
  -- Not billing_settings.max_grant: what was granted can be taken back, also after the limit was lowered.
  if amount is null or amount not between 1 and 1000000000000 then
    perform credits.fail(
      'PT400', 'amount must be a whole number of credits from 1 to a trillion.', jsonb_build_object('amount', amount),
      'No grant is larger.'
    );
  end if;
  entry := credits.replayed_entry(account_id, idempotency_key);
  if entry.id is not null then
    perform credits.check_repeat(
      idempotency_key,
      entry.kind = 'clawback' and entry.amount = -claw_back.amount
      and entry.related_id is not distinct from grant_transaction_id and entry.metadata = claw_back.metadata
      and exists (
        select from credits.clawbacks as c
        where
          c.account_id = entry.account_id and c.transaction_id = entry.id and c.cause = claw_back.cause
          and c.purchase_id is not distinct from claw_back.purchase_id
          and c.other_account_id is not distinct from claw_back.other_account_id
      )
    );
    return entry;
  end if;

  account := credits.lock_account(account_id);
  if account.id is null then
    perform credits.fail(
      'PT404', 'There is no such account.', jsonb_build_object('account_id', account_id), 'Check the account id.'
    );
  end if;
  if grant_transaction_id is not null then
    select g.id into lot_id from credits.credit_grants as g
    inner join public.credit_transactions as t on g.account_id = t.account_id and g.transaction_id = t.id
    where t.account_id = claw_back.account_id and t.id = grant_transaction_id and t.kind = 'grant';
    if not found then
      perform credits.fail(
        'PT404', 'The account has no such grant.', jsonb_build_object('transaction_id', grant_transaction_id),
        'Name the ledger row of a grant to this account.'
      );
    end if;
  end if;

  entry := credits.post_entry(
    account_id, 'clawback', -amount,
    related_id => grant_transaction_id,
    idempotency_key => idempotency_key,
    metadata => metadata
  );
  insert into credits.clawbacks (account_id, transaction_id, cause, purchase_id, other_account_id)
  values (entry.account_id, entry.id, claw_back.cause, claw_back.purchase_id, claw_back.other_account_id);
  perform credits.settle_account(account_id, usable_from => '-infinity', preferred_lot => lot_id);
  perform credits.pass_debt(account_id);
  return entry;
end
$$;

comment on function credits.claw_back is
'Internal: takes back amount credits from an account, because their payment was refunded or disputed, a plan was '
'changed for a smaller one, or a debt passes between it and its successor; returns the ledger row. cause and what it '
'names are noted in credits.clawbacks. Takes from the named grant''s lot first, then from the others in burn order, '
'then below zero: the next grant pays that off. The debt of a deleted user''s account goes to its successor. Errors: '
'PT400, PT404, PT409 as elsewhere.';
