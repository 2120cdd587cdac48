create function credits.post_entry(
  account_id uuid,
  kind public.transaction_kind,
  amount bigint,
  related_id bigint default null,
  operation text default null,
  idempotency_key text default null,
  metadata jsonb default '{}',
  actor text default credits.actor(),
  moment timestamptz default null
) returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
  account public.credit_accounts;
  entry public.credit_transactions;
begin
  update public.credit_accounts as a
  set
    balance = a.balance + post_entry.amount,
    lifetime_granted = a.lifetime_granted + case when post_entry.kind = 'grant' then post_entry.amount else 0 end,
    lifetime_refunded = a.lifetime_refunded + case when post_entry.kind = 'refund' then post_entry.amount else 0 end,
    lifetime_expired = a.lifetime_expired - case when post_entry.kind = 'expiry' then post_entry.amount else 0 end,
    lifetime_clawed_back = a.lifetime_clawed_back - case when post_entry.kind = 'clawback' then post_entry.amount else 0 end,
    available = credits.available(a.balance + post_entry.amount, a.held),
    last_entry = a.last_entry + 1,
    unsettled_since = coalesce(a.unsettled_since, credits.now()),
    -- The account was settled before, so nothing has expired yet that this row could see as alive.
    updated_at = coalesce(post_entry.moment, credits.entry_moment(a.next_expiry))
  where a.id = post_entry.account_id
  returning a.* into account;

  insert into public.credit_transactions (
    account_id, id, kind, amount, balance_after, operation, related_id, actor, idempotency_key, metadata,
    created_at
  )
  values (
    account.id, account.last_entry, post_entry.kind, post_entry.amount, account.balance, post_entry.operation,
    post_entry.related_id, post_entry.actor, post_entry.idempotency_key, post_entry.metadata,
    account.updated_at
  )
  returning * into entry;
  perform credits.note_operator(entry);
  return entry;
end
$$;

comment on function credits.post_entry is
'Changes a balance and writes the ledger row that says so, for a grant, refund, clawback or expiry. Checks nothing but '
'the constraints. The caller holds the account''s lock. consume_credits and capture_hold write their own rows, in one '
'UPDATE with their conditions. moment: when it happened, for an expiry.';
