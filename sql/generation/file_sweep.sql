create table credits.file_sweep (
  id boolean primary key default true,
  leased_by uuid,
  leased_until timestamptz,
  after text,
  swept_at timestamptz,
  constraint only_one_row check (id)
);

insert into credits.file_sweep default values;

alter table credits.file_sweep enable row level security;
alter table credits.file_sweep force row level security;
revoke all on table credits.file_sweep from anon, authenticated, service_role;

comment on table credits.file_sweep is 'How far sweep_files has come in the bucket generations: exactly one row.';
comment on column credits.file_sweep.id is 'Always true: there is one row.';
comment on column credits.file_sweep.leased_by is 'The process that sweeps.';
comment on column credits.file_sweep.leased_until is 'Until then no other process goes on with it.';
comment on column credits.file_sweep.after is 'The last name that was looked at; null between two sweeps.';
comment on column credits.file_sweep.swept_at is 'When a sweep last came to the end of the bucket.';
