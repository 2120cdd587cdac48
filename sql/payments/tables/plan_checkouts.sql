create table credits.plan_checkouts (
  account_id uuid not null references public.credit_accounts (id),
  session_id text not null,
  request text not null,
  url text not null,
  expires_at timestamptz not null,
  closed_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  constraint plan_checkouts_pkey primary key (account_id, session_id),
  constraint session_id_must_start_with_cs check (session_id ~ '^cs_[A-Za-z0-9_]+$'),
  constraint request_must_be_a_sha_256_in_hex check (request ~ '^[0-9a-f]{64}$')
);

create index plan_checkouts_account_id on credits.plan_checkouts (account_id, created_at desc);

alter table credits.plan_checkouts enable row level security;
alter table credits.plan_checkouts force row level security;
revoke all on table credits.plan_checkouts from anon, authenticated, service_role;

comment on table credits.plan_checkouts is
'Checkout sessions for plans that were opened of late: an account has at most one that can be paid, since each paid '
'one would be a subscription.';
comment on column credits.plan_checkouts.session_id is 'Stripe''s cs_… id.';
comment on column credits.plan_checkouts.request is 'SHA-256 of what was asked for: the same is sent to the same page.';
comment on column credits.plan_checkouts.url is 'The page to pay on.';
comment on column credits.plan_checkouts.expires_at is 'When Stripe expires it by itself.';
comment on column credits.plan_checkouts.closed_at is 'When it was found paid or expired; null while it may be open.';
