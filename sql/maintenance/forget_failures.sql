create function credits.forget_failures() returns void
language plpgsql
set search_path = ''
as $$
begin
  delete from credits.maintenance_failures as f
  where f.id in (
    select o.id
    from credits.maintenance_failures as o
    left join public.credit_accounts as a on o.account_id = a.id
    left join public.generation_jobs as j on o.job_id = j.id
    where
      case
        -- Nothing is pending or due any more that was when it failed.
        when o.task = 'settlement' then coalesce(least(a.unsettled_since, a.next_expiry) > o.last_at, true)
        when o.task = 'allotments' and o.account_id is not null then not exists (
          select from credits.allotments as m where m.account_id = o.account_id and m.next_at <= credits.now()
        )
        when o.job_id is not null then j.finished_at is not null or j.id is null
      end
    -- Another run has it, or has just written it.
    for update of o skip locked
  );
end
$$;

comment on function credits.forget_failures() is
'Deletes failures of the maintenance that are over: their account has been settled since, by whomever, has no month '
'of a plan waiting, or their job has ended.';
