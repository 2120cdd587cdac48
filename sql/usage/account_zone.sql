create function credits.account_zone(account_id uuid) returns text
language sql
stable
set search_path = ''
as $$
  select coalesce(
    (select z.zone from credits.account_zones as z where z.account_id = account_zone.account_id), 'UTC'
  );
$$;

comment on function credits.account_zone(uuid) is 'The time zone in which the account''s days are counted.';
