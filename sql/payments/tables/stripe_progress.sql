create table credits.stripe_progress (
  id boolean primary key default true,
  events_through timestamptz,
  swept_at timestamptz,
  constraint only_one_row check (id)
);

insert into credits.stripe_progress default values;

alter table credits.stripe_progress enable row level security;
alter table credits.stripe_progress force row level security;
revoke all on table credits.stripe_progress from anon, authenticated, service_role;

comment on table credits.stripe_progress is 'How far reconciliation has come: exactly one row.';
comment on column credits.stripe_progress.id is 'Always true: there is one row.';
comment on column credits.stripe_progress.events_through is 'Stripe''s events up to then have been read.';
comment on column credits.stripe_progress.swept_at is 'When Stripe''s objects were last compared.';
