create function credits.count_call(account_id uuid, call text, out calls integer, out retry_after integer)
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  this_minute timestamptz := date_trunc('minute', moment);
begin
  insert into credits.call_rates as r (account_id, call, minute, calls)
  values (count_call.account_id, count_call.call, this_minute, 1)
  on conflict on constraint call_rates_pkey do update set
    -- A call that waited for the row since the minute before counts in the minute that has begun.
    minute = greatest(r.minute, excluded.minute),
    calls = case when r.minute >= excluded.minute then r.calls + 1 else 1 end
  returning r.calls into count_call.calls;
  retry_after := ceil(extract(epoch from this_minute + interval '1 minute' - moment));
end
$$;

comment on function credits.count_call(uuid, text) is
'Counts a call of the account, one session at a time per account and call: returns which of the minute''s it is, and '
'the seconds until the next minute, for the caller to compare with its limit. A refusal that raises takes its count '
'back: the limit stays reached.';
