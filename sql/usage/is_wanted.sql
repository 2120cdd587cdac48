create function credits.is_wanted(
  entry public.credit_transactions,
  kinds public.transaction_kind[],
  operations text[],
  zone text,
  first_day date,
  end_day date
) returns boolean
language sql
stable
as $$
  select
    (kinds is null or entry.kind = any(kinds))
    and (operations is null or entry.operation = any(operations))
    and (first_day is null or (entry.created_at at time zone zone)::date >= first_day)
    and (end_day is null or (entry.created_at at time zone zone)::date < end_day);
$$;

comment on function credits.is_wanted is
'Whether public.credit_history shows the ledger row; null arguments ask for nothing. Without a SET clause it is '
'planned as part of its caller.';
