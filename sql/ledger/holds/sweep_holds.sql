create function credits.sweep_holds(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  before timestamptz := credits.now() - (select s.hold_retention from credits.billing_settings as s);
  accounts uuid[];
  old uuid[];
begin
  -- With the account's lock nobody finds the hold by its key meanwhile and opens a job on it.
  select array_agg(o.account_id), array_agg(o.id) into accounts, old
  from (
    select h.account_id, h.id
    from public.credit_holds as h
    inner join public.credit_accounts as a on h.account_id = a.id
    where
      h.status in ('released', 'expired')
      and h.closed_at <= before
      and not exists (select from public.generation_jobs as j where j.account_id = h.account_id and j.hold_id = h.id and j.finished_at is null)
    order by h.closed_at
    limit batch
    for update of h skip locked
    for no key update of a skip locked
  ) as o;
  delete from public.generation_jobs as j using unnest(accounts, old) as o (account_id, hold_id)
  where j.account_id = o.account_id and j.hold_id = o.hold_id;
  delete from public.credit_holds as h using unnest(accounts, old) as o (account_id, hold_id)
  where h.account_id = o.account_id and h.id = o.hold_id;
  return coalesce(cardinality(old), 0);
end
$$;

comment on function credits.sweep_holds(integer) is
'Deletes up to batch holds that ended without a capture billing_settings.hold_retention ago, with the '
'generations that they were made for; returns how many. Their provider calls stay in credits.usage_logs. Captured '
'holds stay for ever.';
