create table credits.stripe_disputes (
  id text primary key,
  payment_intent_id text not null,
  account_id uuid references public.credit_accounts (id),
  amount bigint not null,
  currency text not null,
  status credits.dispute_stage not null,
  unknown_status text,
  withdrawn boolean not null default false,
  reinstated boolean not null default false,
  froze_at timestamptz,
  standing boolean not null generated always as (
    status in ('needs_response', 'under_review', 'lost') and not reinstated
  ) stored,
  takes boolean not null generated always as (
    (status in ('needs_response', 'under_review', 'lost') or status in ('prevented', 'unknown') and withdrawn)
    and not reinstated
  ) stored,
  constraint amount_must_be_0_or_more check (amount >= 0),
  constraint unknown_status_must_tell_an_unknown_one check ((status = 'unknown') = (unknown_status is not null))
);

create index stripe_disputes_payment_intent_id on credits.stripe_disputes (payment_intent_id);
create index stripe_disputes_account_id on credits.stripe_disputes (account_id);

alter table credits.stripe_disputes enable row level security;
alter table credits.stripe_disputes force row level security;
revoke all on table credits.stripe_disputes from anon, authenticated, service_role;

comment on table credits.stripe_disputes is
'Disputes as Stripe tells them, kept whether or not their purchase is known yet.';
comment on column credits.stripe_disputes.id is 'Stripe''s dp_… or du_… id.';
comment on column credits.stripe_disputes.account_id is 'Whose purchase is disputed, once known.';
comment on column credits.stripe_disputes.amount is 'In minor units of the currency.';
comment on column credits.stripe_disputes.status is 'The furthest that it is known to have come.';
comment on column credits.stripe_disputes.unknown_status is 'Stripe''s word for a status that is unknown here.';
comment on column credits.stripe_disputes.withdrawn is 'Whether Stripe has told that it took the money.';
comment on column credits.stripe_disputes.reinstated is 'Whether Stripe has put the money back.';
comment on column credits.stripe_disputes.froze_at is
'When it froze the account: once, so that an operator can unfreeze one whose dispute goes on.';
comment on column credits.stripe_disputes.standing is
'Whether it freezes the account: not an inquiry (warning_…), not prevented, not won, not reinstated.';
comment on column credits.stripe_disputes.takes is
'Whether it keeps the money from us: it stands, or was prevented from becoming a chargeback by giving the money back, '
'or its status is unknown here and Stripe took the money.';
