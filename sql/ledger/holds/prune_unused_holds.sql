create function credits.prune_unused_holds(account_id uuid, most integer) returns void
language plpgsql
set search_path = ''
as $$
declare
  old uuid[];
begin
  -- Not FOR UPDATE: that would also lock, and so write, each of those that OFFSET keeps.
  select array_agg(o.id) into old
  from (
    select h.id
    from public.credit_holds as h
    where
      h.account_id = prune_unused_holds.account_id
      and h.status in ('released', 'expired')
      -- Those of this minute count against its limit.
      and h.closed_at <= credits.now() - interval '1 minute'
      -- A generation that asked a provider was not for nothing.
      and not exists (
        select from public.generation_jobs as j
        where
          j.account_id = h.account_id and j.hold_id = h.id
          and (j.finished_at is null or j.dispatched_at is not null)
      )
    order by h.closed_at desc
    limit 10 offset prune_unused_holds.most
  ) as o;
  if old is not null then
    delete from public.generation_jobs as j
    where j.account_id = prune_unused_holds.account_id and j.hold_id = any(old);
    delete from public.credit_holds as h where h.account_id = prune_unused_holds.account_id and h.id = any(old);
  end if;
end
$$;

comment on function credits.prune_unused_holds(uuid, integer) is
'Deletes some of the account''s holds that ended without a capture or a provider''s call, beyond the newest so many: '
'who makes holds in order to fill the database gets no further than that. The caller holds the account''s lock.';
