create function credits.schedule_maintenance() returns text
language plpgsql
set search_path = ''
as $body$
begin
  if not exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    return 'pg_cron is not installed: enable it (Dashboard, Integrations, Cron), then: select credits.schedule_maintenance();';
  end if;
  -- One statement: pg_cron runs several in one transaction, which a procedure may not end.
  execute $job$
    select cron.schedule('credits-maintenance', '10 seconds', 'call credits.maintain()')
  $job$;
  return 'Scheduled every 10 seconds as the pg_cron job credits-maintenance.';
end
$body$;

comment on function credits.schedule_maintenance() is
'Has pg_cron call credits.maintain, where pg_cron is installed; says what it did. Safe to call again.';

select credits.schedule_maintenance();
