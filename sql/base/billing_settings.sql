create table credits.billing_settings (
  id boolean primary key default true,
  constraint only_one_row check (id)
);

insert into credits.billing_settings default values;

alter table credits.billing_settings enable row level security;
alter table credits.billing_settings force row level security;
revoke all on table credits.billing_settings from anon, authenticated, service_role;

comment on table credits.billing_settings is 'Settings of the ledger: exactly one row. Change it with UPDATE.';
comment on column credits.billing_settings.id is 'Always true: there is one row.';
