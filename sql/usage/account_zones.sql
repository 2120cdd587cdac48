create table credits.account_zones (
  account_id uuid not null references public.credit_accounts (id),
  zone text not null,
  changed_on date not null,
  changes integer not null default 1,
  constraint account_zones_pkey primary key (account_id),
  constraint changes_must_not_be_negative check (changes >= 0)
);

alter table credits.account_zones enable row level security;
alter table credits.account_zones force row level security;
revoke all on table credits.account_zones from anon, authenticated, service_role;

comment on table credits.account_zones is
'The time zone in which an account''s days are counted, one for all who read it; UTC for accounts without a row. Not '
'in credit_accounts, which each spend rewrites. Written under the account''s lock.';
comment on column credits.account_zones.zone is 'An IANA name: see credits.is_zone.';
comment on column credits.account_zones.changed_on is 'The day (UTC) of the last change.';
comment on column credits.account_zones.changes is
'How often its user changed it on that day, for billing_settings.max_time_zone_changes.';
