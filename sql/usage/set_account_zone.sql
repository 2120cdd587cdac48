create function credits.set_account_zone(account_id uuid, zone text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if not credits.is_zone(zone) then
    perform credits.fail(
      'PT400', 'There is no such time zone.', jsonb_build_object('zone', left(zone, 100)),
      'Take a name from pg_timezone_names, such as Asia/Tokyo.'
    );
  end if;
  perform credits.lock_account(account_id);
  insert into credits.account_zones as z (account_id, zone, changed_on, changes)
  values (set_account_zone.account_id, set_account_zone.zone, (credits.now() at time zone 'UTC')::date, 0)
  on conflict on constraint account_zones_pkey do update set zone = excluded.zone;
  perform credits.rebuild_usage(account_id);
end
$$;

comment on function credits.set_account_zone(uuid, text) is
'Sets the time zone of an account and adds its usage up anew. For public.set_time_zone, and operators, who may for '
'accounts of any size. PT400 for an unknown zone.';
