alter table credits.billing_settings
add column max_generations_per_minute integer not null default 60,
add column max_generations_in_flight integer not null default 10,
add column max_input_files integer not null default 100,
add column max_input_bytes bigint not null default 200000000,
add column input_retention interval not null default '7 days',
add column orphan_retention interval not null default '1 day',
add constraint max_generations_per_minute_must_be_0_or_more check (max_generations_per_minute >= 0),
add constraint max_generations_in_flight_must_be_0_or_more check (max_generations_in_flight >= 0),
add constraint max_input_files_must_be_0_or_more check (max_input_files >= 0),
add constraint max_input_bytes_must_be_0_or_more check (max_input_bytes >= 0),
add constraint input_retention_must_be_an_hour_or_more check (input_retention >= '1 hour'),
add constraint orphan_retention_must_be_an_hour_or_more check (orphan_retention >= '1 hour');

comment on column credits.billing_settings.max_generations_per_minute is
'How many generations one account may ask for in a minute, refused ones included.';
comment on column credits.billing_settings.max_generations_in_flight is
'How many generations of one account may be under way at once.';
comment on column credits.billing_settings.max_input_files is
'How many files one account may have below inputs/ in the bucket generations. The newest beyond it are swept.';
comment on column credits.billing_settings.max_input_bytes is
'How many bytes these files may have together. The newest beyond it are swept.';
comment on column credits.billing_settings.input_retention is
'How old a file below inputs/ gets before it is swept. At least an hour.';
comment on column credits.billing_settings.orphan_retention is
'How long the files of a job that is over stay when they are not its outputs, before they are swept. At least an hour.';
