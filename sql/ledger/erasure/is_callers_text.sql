create function credits.is_callers_text(entry public.credit_transactions) returns boolean
language sql
stable
as $$
  select
    credits.has_text(entry)
    and not coalesce(starts_with(entry.idempotency_key, 'sys:'), false)
    and case
      when entry.kind = 'clawback' or entry.kind = 'refund' and entry.operation is null then exists (
        select from credits.clawbacks as c
        where
          c.account_id = entry.account_id
          and c.transaction_id = case when entry.kind = 'clawback' then entry.id else entry.related_id end
          and c.cause = 'operator'
      )
      else entry.kind <> 'expiry'
    end;
$$;

comment on function credits.is_callers_text(public.credit_transactions) is
'Whether a ledger row has a key or metadata that a caller wrote: what credits.erase_texts erases. What the ledger '
'itself writes names nobody, and it reads it again: keys by which a bonus or a payment comes once, and what its '
'clawbacks and their ends say.';
