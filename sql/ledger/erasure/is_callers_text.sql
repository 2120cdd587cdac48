create function credits.is_callers_text(entry public.credit_transactions) returns boolean
language sql
immutable
as $$
  select
    credits.has_text(entry)
    and not coalesce(starts_with(entry.idempotency_key, 'sys:'), false)
    and case entry.kind
      when 'refund' then entry.operation is not null -- else it gives a clawback back
      when 'clawback' then not entry.metadata ?| array['purchase', 'downgrade', 'debt_passed_from', 'debt_returned_to']
      else entry.kind <> 'expiry'
    end;
$$;

comment on function credits.is_callers_text(public.credit_transactions) is
'Whether a ledger row has a key or metadata that a caller wrote. What the ledger itself writes names nobody, and it '
'reads it again: keys by which a bonus or a payment comes once, and the causes of clawbacks.';
