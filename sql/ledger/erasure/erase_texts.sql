create function credits.erase_texts(account_id uuid, transaction_id bigint default null) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  erased bigint[];
begin
  -- All rows are sealed then.
  perform credits.lock_account(account_id);
  select array_agg(t.id) into erased
  from public.credit_transactions as t
  where
    t.account_id = erase_texts.account_id
    and (erase_texts.transaction_id is null or t.id = erase_texts.transaction_id)
    and credits.is_callers_text(t);
  if erased is null then
    return 0;
  end if;

  with text as (
    select
      t.account_id,
      t.id,
      t.id = any(erased) as is_erased,
      bool_or(t.id = any(erased)) over (partition by s.number) as is_touched,
      coalesce(x.salt, credits.text_salt(s.salt, t.id)) as salt,
      t as entry
    from credits.ledger_seals as s
    inner join public.credit_transactions as t
      on s.account_id = t.account_id and t.id > s.through_id - s.entries and t.id <= s.through_id
    left join credits.sealed_texts as x on t.account_id = x.account_id and t.id = x.transaction_id
    where
      s.account_id = erase_texts.account_id
      and (
        erase_texts.transaction_id is null
        or erase_texts.transaction_id between s.through_id - s.entries + 1 and s.through_id
      )
      and credits.has_text(t)
  )

  insert into credits.sealed_texts as x (account_id, transaction_id, salt, digest, erased_at, erased_by)
  select
    t.account_id,
    t.id,
    case when not t.is_erased then t.salt end,
    case when t.is_erased then credits.text_digest(t.entry, t.salt) end,
    case when t.is_erased then credits.now() end,
    case when t.is_erased then session_user end
  from text as t
  where t.is_touched and (t.is_erased or t.salt is not null)
  on conflict on constraint sealed_texts_pkey do update set
    salt = null, digest = excluded.digest, erased_at = excluded.erased_at, erased_by = excluded.erased_by
  where excluded.digest is not null;

  update credits.ledger_seals as s set salt = null
  where
    s.account_id = erase_texts.account_id
    and s.salt is not null
    and exists (
      select from unnest(erased) as t (id) where t.id > s.through_id - s.entries and t.id <= s.through_id
    );
  update public.credit_transactions as t set idempotency_key = null, metadata = '{}'
  where t.account_id = erase_texts.account_id and t.id = any(erased);
  return cardinality(erased);
end
$$;

comment on function credits.erase_texts(uuid, bigint) is
'Erases what callers wrote in one ledger row of the account, or in all: keys and metadata, and the salts by which they '
'could be guessed from their seals. The seals stay whole; a key may be used again afterwards, for a new request. '
'Returns in how many rows. Locks and settles the account. Those of holds: credits.erase_hold_texts.';
