create table public.generation_jobs (
  account_id uuid not null references public.credit_accounts (id),
  id uuid not null default gen_random_uuid(),
  hold_id uuid not null,
  status public.generation_status not null default 'held',
  operation text not null,
  provider text not null,
  model text not null,
  quantity integer not null,
  options jsonb not null default '{}',
  request text,
  provider_job_id text,
  leased_by uuid,
  leased_until timestamptz,
  outputs jsonb not null default '[]',
  error jsonb,
  transaction_id bigint,
  cancel_requested_at timestamptz,
  dispatched_at timestamptz,
  deadline_at timestamptz not null,
  finished_at timestamptz,
  created_at timestamptz not null,
  constraint generation_jobs_pkey primary key (account_id, id),
  constraint generation_jobs_hold_id_key unique (account_id, hold_id),
  constraint generation_jobs_hold_id_fkey foreign key (account_id, hold_id)
  references public.credit_holds (account_id, id),
  constraint generation_jobs_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint final_jobs_must_have_an_end check (
    (status in ('succeeded', 'refused', 'failed', 'canceled', 'expired')) = (finished_at is not null)
  ),
  constraint request_must_be_sha_256 check (request ~ '^[0-9a-f]{64}$'),
  constraint outputs_must_be_an_array check (jsonb_typeof(outputs) = 'array'),
  constraint provider_job_id_must_have_1_to_500_characters check (char_length(provider_job_id) between 1 and 500)
)
with (fillfactor = 70);

create index generation_jobs_account_id on public.generation_jobs (account_id, created_at desc);
-- Serves what looks for deadlines, too: open jobs are few, and without an index on what a dispatch changes its UPDATE
-- keeps off the indexes (HOT).
create index generation_jobs_open on public.generation_jobs (account_id) where finished_at is null;
create index generation_jobs_transaction_id on public.generation_jobs (account_id, transaction_id)
where transaction_id is not null;

alter table public.generation_jobs enable row level security;
alter table public.generation_jobs force row level security;
revoke all on table public.generation_jobs from anon, authenticated, service_role;
grant select on table public.generation_jobs to authenticated, service_role;
create policy own_jobs on public.generation_jobs for select to authenticated
using (account_id = (select credits.my_account_id()));

comment on table public.generation_jobs is
'One row per request for images, text or video: reservation, provider, outcome. No prompt is kept. Written by '
'begin_generation, decline_generation, dispatch_generation, note_generation, lease_generations, release_generations, '
'finish_generation, cancel_generation and the sweep.';
comment on column public.generation_jobs.hold_id is 'credit_holds.id: the reservation, and whose key makes it once.';
comment on column public.generation_jobs.provider is 'Of the price in force when it began.';
comment on column public.generation_jobs.quantity is 'Outputs asked for.';
comment on column public.generation_jobs.options is
'What the provider is asked with: the request''s options, and the defaults of its price''s terms.';
comment on column public.generation_jobs.request is
'SHA-256 in hex of what was asked for, prompt and images included; null since it was erased.';
comment on column public.generation_jobs.provider_job_id is 'The provider''s id, by which it can be asked about.';
comment on column public.generation_jobs.leased_by is
'The process that sees to the provider''s work. Another takes it over when it no longer says that it is alive.';
comment on column public.generation_jobs.leased_until is 'Until then no other process takes it over.';
comment on column public.generation_jobs.outputs is
'What was delivered: [{path, mime_type, width, height}], paths in the Storage bucket generations.';
comment on column public.generation_jobs.error is 'Why nothing was delivered: {status, code, message}.';
comment on column public.generation_jobs.transaction_id is 'The capture that charged it.';
comment on column public.generation_jobs.dispatched_at is
'Committed before the provider is asked, so that no call goes unnoticed.';
comment on column public.generation_jobs.deadline_at is 'Past it the sweep ends the job and its hold.';
