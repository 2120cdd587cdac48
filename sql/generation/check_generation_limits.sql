create function credits.check_generation_limits(account_id uuid, idempotency_key text) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  counted record;
  account record;
begin
  if exists (
    select from public.credit_holds as h
    inner join public.generation_jobs as j on h.account_id = j.account_id and h.id = j.hold_id
    where
      h.account_id = check_generation_limits.account_id
      and h.idempotency_key = check_generation_limits.idempotency_key
  ) then
    return null;
  end if;
  counted := credits.count_call(account_id, 'generation');

  -- Under the lock of the count, so it also sees what the same key opened meanwhile.
  select
    s.max_generations_per_minute as most_calls,
    s.max_generations_in_flight as most_in_flight,
    (
      select count(*) from public.generation_jobs as j
      -- One whose time is over is not under way, swept or not.
      where j.account_id = check_generation_limits.account_id and j.finished_at is null and j.deadline_at > moment
    ) as in_flight,
    exists (
      select from public.credit_holds as h
      inner join public.generation_jobs as j on h.account_id = j.account_id and h.id = j.hold_id
      where
        h.account_id = check_generation_limits.account_id
        and h.idempotency_key = check_generation_limits.idempotency_key
    ) as is_repeat
  into account
  from credits.billing_settings as s;

  if account.is_repeat then
    return null;
  elsif counted.calls > account.most_calls then
    return credits.refuse_softly(
      'PT429', 'Too many generations in this minute.',
      jsonb_build_object('limit', account.most_calls, 'retry_after', counted.retry_after)::text,
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

comment on function credits.check_generation_limits(uuid, text) is
'Counts a call of begin_generation against the account''s limits, one session per account at a time. Returns the '
'refusal, or null to go on. A repeat of a key that opened a job is not counted.';
