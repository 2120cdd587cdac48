create function public.set_time_zone(zone text) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  account uuid := credits.account_of(credits.caller());
  today date := (credits.now() at time zone 'UTC')::date;
  -- What a user can have added up at once: a fraction of a second's work, while the account is locked.
  most constant bigint := 250000;
  allowed integer;
  kept record;
  entries bigint;
begin
  if not credits.is_zone(zone) then
    perform credits.fail(
      'PT400', 'There is no such time zone.', jsonb_build_object('zone', left(zone, 100)),
      'Send a name such as Asia/Tokyo, as Intl.DateTimeFormat().resolvedOptions().timeZone gives it, or UTC.'
    );
  elsif zone = credits.account_zone(account) then
    return jsonb_build_object('zone', zone, 'changed', false);
  end if;

  account := coalesce(account, credits.open_account(credits.caller()));
  -- Not credits.lock_account, which settles: what is refused below must cost little, however often it is asked for.
  select a.last_entry into entries from public.credit_accounts as a where a.id = account for no key update;
  if zone = credits.account_zone(account) then
    return jsonb_build_object('zone', zone, 'changed', false);
  end if;
  select s.max_time_zone_changes into allowed from credits.billing_settings as s;
  select z.changed_on, z.changes into kept from credits.account_zones as z where z.account_id = account;
  if entries > most then
    perform credits.fail(
      'PT409', format('An account with more than %s ledger rows does not change its time zone by itself.', most),
      jsonb_build_object('rows', entries, 'limit', most), 'Ask the app''s operator to set it.'
    );
  elsif allowed = 0 or (kept.changed_on >= today and kept.changes >= allowed) then
    perform credits.fail(
      'PT429', format('The time zone can be changed %s times a day.', allowed),
      jsonb_build_object(
        'limit', allowed,
        'retry_after', ceil(extract(epoch from (today + 1)::timestamp at time zone 'UTC' - credits.now()))
      ),
      'Wait until tomorrow.'
    );
  end if;
  perform credits.set_account_zone(account, zone);
  update credits.account_zones as z
  set changed_on = today, changes = case when kept.changed_on >= today then kept.changes else 0 end + 1
  where z.account_id = account;
  return jsonb_build_object('zone', zone, 'changed', true);
end
$$;

comment on function public.set_time_zone(text) is
'Sets the time zone in which the signed-in user''s days are counted, UTC to begin with: an IANA name such as '
'Asia/Tokyo. Their usage is added up anew. Returns {zone, changed}; the same zone again does nothing. Errors: PT400 '
'unknown zone, PT403 not signed in, PT409 more than 250,000 ledger rows, PT429 more than '
'billing_settings.max_time_zone_changes on one day (details: limit, retry_after).';

grant execute on function public.set_time_zone(text) to authenticated;
