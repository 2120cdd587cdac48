create function credits.count_checkout(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  counted record := credits.count_call(account_id, 'checkout');
  most integer := (select s.max_checkouts_per_minute from credits.billing_settings as s);
begin
  if counted.calls > most then
    perform credits.fail(
      'PT429', 'Too many checkouts in this minute.',
      jsonb_build_object('limit', most, 'retry_after', counted.retry_after), 'Wait, then try again.'
    );
  end if;
end
$$;

comment on function credits.count_checkout(uuid) is
'Counts a page of Stripe''s that the account is about to open. PT429 beyond '
'billing_settings.max_checkouts_per_minute (details: limit, retry_after in seconds).';
