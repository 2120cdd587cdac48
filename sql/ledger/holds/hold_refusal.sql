create function credits.hold_refusal(account_id uuid) returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  settings record;
  made record;
begin
  select s.max_holds_per_minute, s.max_open_holds into settings from credits.billing_settings as s;

  -- Generations have limits of their own.
  select count(*) as holds, min(n.created_at) as oldest into made
  from (
    select h.created_at
    from public.credit_holds as h
    where
      h.account_id = hold_refusal.account_id
      and h.created_at > moment - interval '1 minute'
      and not exists (select from public.generation_jobs as j where j.account_id = h.account_id and j.hold_id = h.id)
    order by h.created_at desc
    limit settings.max_holds_per_minute
  ) as n;
  if made.holds >= settings.max_holds_per_minute then
    return jsonb_build_object(
      'message', 'Too many holds in this minute.',
      'limit', settings.max_holds_per_minute,
      'retry_after', ceil(extract(epoch from coalesce(made.oldest, moment) + interval '1 minute' - moment))
    );
  end if;

  select count(*) as holds, min(n.expires_at) as first_end into made
  from (
    select h.expires_at
    from public.credit_holds as h
    where
      h.account_id = hold_refusal.account_id
      and h.status = 'held'
      and h.expires_at > moment
      and not exists (select from public.generation_jobs as j where j.account_id = h.account_id and j.hold_id = h.id)
    limit settings.max_open_holds
  ) as n;
  if made.holds >= settings.max_open_holds then
    return jsonb_build_object(
      'message', 'Too many holds are open.',
      'limit', settings.max_open_holds,
      'retry_after', ceil(extract(epoch from coalesce(made.first_end, moment + interval '1 minute') - moment))
    );
  end if;
  return null;
end
$$;

comment on function credits.hold_refusal(uuid) is
'Why the account may not make another hold now, by billing_settings.max_holds_per_minute and max_open_holds: '
'{message, limit, retry_after in seconds}; null when it may. Counts rows, writes none. For the WHERE of the UPDATE '
'that takes the account''s lock: every hold changes the account''s row, so where the UPDATE had to wait, Postgres '
'asks again once it has the lock, and being volatile the function then sees what the other session has committed.';
