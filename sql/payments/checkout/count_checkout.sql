create function credits.count_checkout(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  this_minute timestamptz := date_trunc('minute', moment);
  most integer;
  calls integer;
begin
  select s.max_checkouts_per_minute into most from credits.billing_settings as s;
  insert into credits.checkout_rate as r (account_id, minute, calls)
  values (count_checkout.account_id, this_minute, 1)
  on conflict on constraint checkout_rate_pkey do update set
    minute = excluded.minute,
    calls = case when r.minute = excluded.minute then r.calls + 1 else 1 end
  returning r.calls into calls;
  -- The refusal undoes its own count: the limit stays reached, and nothing was opened.
  if calls > most then
    perform credits.fail(
      'PT429', 'Too many checkouts in this minute.',
      jsonb_build_object(
        'limit', most, 'retry_after', ceil(extract(epoch from this_minute + interval '1 minute' - moment))
      ),
      'Wait, then try again.'
    );
  end if;
end
$$;

comment on function credits.count_checkout(uuid) is
'Counts a page of Stripe''s that the account is about to open. PT429 beyond '
'billing_settings.max_checkouts_per_minute (details: limit, retry_after in seconds).';
