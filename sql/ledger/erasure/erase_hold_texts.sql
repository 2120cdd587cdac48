create function credits.erase_hold_texts(account_id uuid, transaction_id bigint default null) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  erased bigint;
begin
  update public.credit_holds as h
  set idempotency_key = null, request_hash = null, metadata = '{}', release_reason = null
  where
    h.account_id = erase_hold_texts.account_id
    and (erase_hold_texts.transaction_id is null or h.transaction_id = erase_hold_texts.transaction_id)
    and h.status <> 'held'
    and (h.idempotency_key is not null or h.metadata <> '{}' or h.release_reason is not null)
    and not exists (
      select from public.generation_jobs as j
      where j.account_id = h.account_id and j.hold_id = h.id and j.finished_at is null
    );
  get diagnostics erased = row_count;
  return erased;
end
$$;

comment on function credits.erase_hold_texts(uuid, bigint) is
'Erases what callers wrote in the account''s holds that have ended, those of generations included (the digest of the '
'request): in all, or in the hold of one capture. Returns in how many. The caller holds the account''s lock.';
