create table credits.generation_rate (
  account_id uuid primary key references public.credit_accounts (id),
  minute timestamptz not null,
  calls integer not null
)
with (fillfactor = 50);

alter table credits.generation_rate enable row level security;
alter table credits.generation_rate force row level security;
revoke all on table credits.generation_rate from anon, authenticated, service_role;

comment on table credits.generation_rate is
'How many generations an account has asked for in the current minute, those that were refused included.';
