alter table credits.billing_settings
add column max_quantity integer not null default 10000,
add constraint max_quantity_must_be_1_to_1000000 check (max_quantity between 1 and 1000000);

comment on column credits.billing_settings.max_quantity is 'The largest quantity of one quote, spend or hold.';
