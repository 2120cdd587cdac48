create table credits.stripe_fraud_warnings (
  id text primary key,
  payment_intent_id text not null,
  account_id uuid references public.credit_accounts (id),
  fraud_type text,
  freezes boolean not null,
  froze_at timestamptz,
  received_at timestamptz not null default clock_timestamp(),
  constraint id_must_start_with_issfr check (id ~ '^issfr_[A-Za-z0-9_]+$')
);

create index stripe_fraud_warnings_payment_intent_id on credits.stripe_fraud_warnings (payment_intent_id);
create index stripe_fraud_warnings_account_id on credits.stripe_fraud_warnings (account_id);

alter table credits.stripe_fraud_warnings enable row level security;
alter table credits.stripe_fraud_warnings force row level security;
revoke all on table credits.stripe_fraud_warnings from anon, authenticated, service_role;

comment on table credits.stripe_fraud_warnings is
'Early fraud warnings of card issuers, kept whether or not their purchase is known yet.';
comment on column credits.stripe_fraud_warnings.id is 'Stripe''s issfr_… id.';
comment on column credits.stripe_fraud_warnings.payment_intent_id is 'Stripe''s pi_… id of the payment.';
comment on column credits.stripe_fraud_warnings.account_id is 'Whose purchase it is about, once known.';
comment on column credits.stripe_fraud_warnings.fraud_type is
'What the issuer calls it, such as made_with_stolen_card.';
comment on column credits.stripe_fraud_warnings.freezes is
'billing_settings.freeze_on_fraud_warning, as it was when the warning came.';
comment on column credits.stripe_fraud_warnings.froze_at is
'When it froze the account: once, so that an operator can unfreeze it.';
