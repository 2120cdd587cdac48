create function credits.count_generation(account_id uuid, idempotency_key text) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  this_minute timestamptz := date_trunc('minute', moment);
  calls integer;
  account record;
begin
  if exists (
    select from public.credit_holds as h
    inner join public.generation_jobs as j on h.account_id = j.account_id and h.id = j.hold_id
    where h.account_id = count_generation.account_id and h.idempotency_key = count_generation.idempotency_key
  ) then
    return null;
  end if;
  insert into credits.generation_rate as r (account_id, minute, calls)
  values (count_generation.account_id, this_minute, 1)
  on conflict on constraint generation_rate_pkey do update set
    minute = excluded.minute,
    calls = case when r.minute = excluded.minute then r.calls + 1 else 1 end
  returning r.calls into calls;

  -- Under the lock of that row, so it also sees what the same key opened meanwhile.
  select
    s.max_generations_per_minute as most_calls,
    s.max_generations_in_flight as most_in_flight,
    (
      select count(*) from public.generation_jobs as j
      -- One whose time is over is not under way, swept or not.
      where j.account_id = count_generation.account_id and j.finished_at is null and j.deadline_at > moment
    ) as in_flight,
    exists (
      select from public.credit_holds as h
      inner join public.generation_jobs as j on h.account_id = j.account_id and h.id = j.hold_id
      where h.account_id = count_generation.account_id and h.idempotency_key = count_generation.idempotency_key
    ) as is_repeat
  into account
  from credits.billing_settings as s;

  if account.is_repeat then
    return null;
  elsif calls > account.most_calls then
    return credits.refuse_softly(
      'PT429', 'Too many generations in this minute.',
      jsonb_build_object(
        'limit', account.most_calls, 'retry_after', ceil(extract(epoch from this_minute + interval '1 minute' - moment))
      )::text,
      'Wait, then try again.'
    );
  elsif account.in_flight >= account.most_in_flight then
    return credits.refuse_softly(
      'PT429', 'Too many generations are under way.',
      jsonb_build_object('limit', account.most_in_flight, 'retry_after', 5)::text, 'Wait for one to end.'
    );
  end if;
  return null;
end
$$;

comment on function credits.count_generation(uuid, text) is
'Counts a call of begin_generation against the account''s limits, one session at a time an account. Returns the '
'refusal, or null to go on. A repeat of a key that opened a job is not counted.';
