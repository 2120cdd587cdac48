create function credits.erase_hold_texts(account_id uuid, transaction_id bigint default null) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  erased bigint;
begin
  with requests as (
    update public.generation_jobs as j set request = null
    from public.credit_holds as h
    where
      j.account_id = erase_hold_texts.account_id
      and j.request is not null
      and j.finished_at is not null
      and h.account_id = j.account_id
      and h.id = j.hold_id
      and (erase_hold_texts.transaction_id is null or h.transaction_id = erase_hold_texts.transaction_id)
    returning j.hold_id
  )

  update public.credit_holds as h
  set idempotency_key = null, request_hash = null, metadata = '{}', release_reason = null
  where
    h.account_id = erase_hold_texts.account_id
    and (erase_hold_texts.transaction_id is null or h.transaction_id = erase_hold_texts.transaction_id)
    and h.status <> 'held'
    and (
      h.idempotency_key is not null
      or h.metadata <> '{}'
      or h.release_reason is not null
      or h.id in (select r.hold_id from requests as r)
    )
    and not exists (
      select from public.generation_jobs as j
      where j.account_id = h.account_id and j.hold_id = h.id and j.finished_at is null
    );
  get diagnostics erased = row_count;
  return erased;
end
$$;

comment on function credits.erase_hold_texts(uuid, bigint) is
'Erases what callers wrote in the account''s holds that have ended, and the digests of the requests of their '
'generations: in all, or in the hold of one capture. Returns in how many. The caller holds the account''s lock.';
