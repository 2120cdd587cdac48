create function credits.count_generation(account_id uuid, idempotency_key text) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  settings credits.billing_settings;
  moment timestamptz := credits.now();
  this_minute timestamptz := date_trunc('minute', moment);
  calls integer;
begin
  -- A second look under the lock finds what the same key opened meanwhile.
  for attempt in 1..2 loop
    if exists (
      select from public.credit_holds as h
      where h.account_id = count_generation.account_id and h.idempotency_key = count_generation.idempotency_key
    ) then
      return null;
    end if;
    if attempt = 1 then
      insert into credits.generation_rate as r (account_id, minute, calls)
      values (count_generation.account_id, this_minute, 1)
      on conflict on constraint generation_rate_pkey do update set
        minute = excluded.minute,
        calls = case when r.minute = excluded.minute then r.calls + 1 else 1 end
      returning r.calls into calls;
    end if;
  end loop;

  select * into settings from credits.billing_settings;
  if calls > settings.max_generations_per_minute then
    return credits.refuse_softly(
      'PT429', 'Too many generations in this minute.',
      jsonb_build_object(
        'limit', settings.max_generations_per_minute,
        'retry_after', ceil(extract(epoch from this_minute + interval '1 minute' - moment))
      )::text,
      'Wait, then try again.'
    );
  elsif
    settings.max_generations_in_flight <= (
      select count(*) from public.generation_jobs as j
      where j.account_id = count_generation.account_id and j.finished_at is null
    )
  then
    return credits.refuse_softly(
      'PT429', 'Too many generations are under way.',
      jsonb_build_object('limit', settings.max_generations_in_flight, 'retry_after', 5)::text, 'Wait for one to end.'
    );
  end if;
  return null;
end
$$;

comment on function credits.count_generation(uuid, text) is
'Counts a call of begin_generation against the account''s limits, one session at a time an account. Returns the '
'refusal, or null to go on. A repeat of a key that opened a job is not counted.';
