create table credits.stripe_payments (
  payment_intent_id text primary key,
  invoice_id text,
  account_id uuid,
  purchase_id bigint,
  refunded bigint not null default 0,
  receipt_url text,
  received_at timestamptz not null default credits.now(),
  constraint refunded_must_be_0_or_more check (refunded >= 0),
  constraint a_purchase_must_have_an_account check ((account_id is null) = (purchase_id is null))
);

create index stripe_payments_invoice_id on credits.stripe_payments (invoice_id) where invoice_id is not null;
create index stripe_payments_purchase_id on credits.stripe_payments (account_id, purchase_id)
where purchase_id is not null;
create index stripe_payments_unclaimed on credits.stripe_payments (received_at) where purchase_id is null;

alter table credits.stripe_payments enable row level security;
alter table credits.stripe_payments force row level security;
revoke all on table credits.stripe_payments from anon, authenticated, service_role;

comment on table credits.stripe_payments is
'What Stripe tells of a payment intent apart from the purchase that it pays, kept whether or not that is known yet; '
'where it never is, for credits.unclaimed_retention. Whatever names a payment has it here: refunds, disputes, warnings.';
comment on column credits.stripe_payments.invoice_id is
'The invoice that it pays. An invoice does not name its payments; invoice_payment objects do.';
comment on column credits.stripe_payments.account_id is 'Whose purchase it pays, once known.';
comment on column credits.stripe_payments.purchase_id is 'purchases.id within the account, once known.';
comment on column credits.stripe_payments.refunded is
'The highest total of refunds that a charge of it has told, in minor units.';
comment on column credits.stripe_payments.receipt_url is 'Stripe''s page of the receipt of a charge that succeeded.';
comment on column credits.stripe_payments.received_at is 'When it was first told of.';
