create table credits.call_rates (
  account_id uuid not null references public.credit_accounts (id),
  call text not null,
  minute timestamptz not null,
  calls integer not null,
  primary key (account_id, call)
)
with (fillfactor = 50);

alter table credits.call_rates enable row level security;
alter table credits.call_rates force row level security;
revoke all on table credits.call_rates from anon, authenticated, service_role;

comment on table credits.call_rates is
'How often an account has asked in the current minute for what is limited by the minute, refused calls included where '
'the refusal commits.';
comment on column credits.call_rates.call is
'checkout: a page of Stripe''s (billing_settings.max_checkouts_per_minute); generation: begin_generation '
'(max_generations_per_minute).';
comment on column credits.call_rates.minute is 'The minute that calls counts.';
