alter table credits.billing_settings
add column max_time_zone_changes integer not null default 5,
add constraint max_time_zone_changes_must_be_0_to_1000 check (max_time_zone_changes between 0 and 1000);

comment on column credits.billing_settings.max_time_zone_changes is
'How often a user may change their time zone on one day (UTC): each change adds their usage up anew.';
