create function credits.sweep_allotments(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  due record;
  ends_at constant timestamptz := clock_timestamp() + interval '1 second';
  done integer := 0;
begin
  for due in
    select a.purchase_id, a.account_id, p as purchase
    from credits.allotments as a
    inner join public.purchases as p on a.account_id = p.account_id and a.purchase_id = p.id
    where
      a.next_at <= credits.now()
      and not exists (
        select from credits.maintenance_failures as f
        where f.task = 'allotments' and f.account_id = a.account_id and f.retry_at > credits.now()
      )
    order by a.next_at
    limit batch
  loop
    -- Each may have to wait for its user's row; nobody shall wait longer for the accounts that are locked by now.
    exit when clock_timestamp() >= ends_at;
    -- Whoever deals with this invoice or account now is not waited for: the caller may hold other accounts' locks.
    continue when not pg_try_advisory_xact_lock(hashtextextended((due.purchase).invoice_id, 0));
    continue when exists (
      select from unnest(credits.purchase_payments(due.purchase)) as s (id)
      where not pg_try_advisory_xact_lock(hashtextextended(s.id, 0))
    );
    perform from public.credit_accounts as a where a.id = due.account_id for no key update skip locked;
    continue when not found;
    done := done + case when credits.attempt(
      'allotments', format('select to_jsonb(credits.begin_months($1[1], %L))', due.purchase_id), array[due.account_id]
    ) is not null then 1 else 0 end;
  end loop;

  -- Over, by whomever: no month waits any more.
  delete from credits.maintenance_failures as f
  where f.id in (
    select o.id
    from credits.maintenance_failures as o
    where
      o.task = 'allotments' and o.account_id is not null
      and not exists (
        select from credits.allotments as a where a.account_id = o.account_id and a.next_at <= credits.now()
      )
    -- Another run has it, or has just written it.
    for update of o skip locked
  );
  return done;
end
$$;

comment on function credits.sweep_allotments(integer) is
'Grants the months that have begun of up to batch periods that are granted month by month; returns of how many. Leaves '
'to the next time what others have locked, and all after a second, and notes what fails.';
