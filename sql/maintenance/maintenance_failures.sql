create table credits.maintenance_failures (
  id bigint generated always as identity primary key,
  task credits.maintenance_task not null,
  -- No foreign key: it would wait for the account's lock, which may be what failed. Accounts are never deleted.
  account_id uuid,
  job_id uuid,
  sqlstate text not null,
  message text,
  failures integer not null default 1,
  first_at timestamptz not null,
  last_at timestamptz not null,
  retry_at timestamptz not null,
  constraint maintenance_failures_task_account_id_job_id_key unique nulls not distinct (task, account_id, job_id),
  constraint failures_must_be_positive check (failures > 0)
);

create index maintenance_failures_account_id on credits.maintenance_failures (account_id);

alter table credits.maintenance_failures enable row level security;
alter table credits.maintenance_failures force row level security;
revoke all on table credits.maintenance_failures from anon, authenticated, service_role;

comment on table credits.maintenance_failures is
'What maintenance could not do, until it can: an account that cannot be settled, a job that cannot be ended, or a '
'sweep as a whole. Operators read it with maintenance_report(). Delete a row to have it tried at once.';
comment on column credits.maintenance_failures.task is 'What credits.run_maintenance was at.';
comment on column credits.maintenance_failures.account_id is 'Whose; null for a sweep as a whole.';
comment on column credits.maintenance_failures.job_id is 'Of generations: the job, generation_jobs.id.';
comment on column credits.maintenance_failures.sqlstate is 'Postgres''s code of the last failure.';
comment on column credits.maintenance_failures.message is
'Postgres''s sentence of the last failure. Null where it could quote what a user wrote: the server''s log has it.';
comment on column credits.maintenance_failures.failures is 'How often it failed so far.';
comment on column credits.maintenance_failures.first_at is 'When it failed first.';
comment on column credits.maintenance_failures.last_at is 'When it failed last.';
comment on column credits.maintenance_failures.retry_at is
'Not tried before: ten seconds after the first failure, then twice as long each time, up to an hour.';
