alter table credits.billing_settings
add column late_grant_grace interval not null default '30 days',
add column default_currency credits.currency_code not null default 'usd',
add column max_packages integer not null default 10,
add column max_free_packages integer not null default 1,
add column allow_promotion_codes boolean not null default false,
add column max_checkouts_per_minute integer not null default 20,
add column refund_second_subscriptions boolean not null default true,
add column automatic_tax boolean not null default false,
add column tax_id_collection boolean not null default false,
add column billing_address_collection text not null default 'auto',
add column stripe_livemode boolean not null default false,
add column stripe_account text,
add column stripe_payload_retention interval not null default '90 days',
add column freeze_on_fraud_warning boolean not null default false,
add constraint late_grant_grace_must_be_0_to_10_years check (credits.lasts(late_grant_grace, '0', '10 years')),
add constraint max_packages_must_be_1_to_1000 check (max_packages between 1 and 1000),
add constraint max_free_packages_must_be_1_to_1000 check (max_free_packages between 1 and 1000),
add constraint max_checkouts_per_minute_must_be_0_or_more check (max_checkouts_per_minute >= 0),
add constraint billing_address_collection_must_be_auto_or_required check (
  billing_address_collection in ('auto', 'required')
),
add constraint stripe_account_must_start_with_acct check (stripe_account ~ '^acct_[A-Za-z0-9_]+$'),
add constraint stripe_payload_retention_must_be_1_second_to_100_years check (
  credits.lasts(stripe_payload_retention, '1 second', '100 years')
);

comment on column credits.billing_settings.late_grant_grace is
'How long the credits of a subscription''s newest period live when its payment is heard of after the period is over; 0 '
'for not at all. Those of periods before it expire at once, as they would have in time.';
comment on column credits.billing_settings.default_currency is 'The currency of a checkout that names none.';
comment on column credits.billing_settings.max_packages is
'How many of one package a checkout may buy, where credit_packages.max_quantity does not say.';
comment on column credits.billing_settings.max_free_packages is
'How many packages, or units of a plan, are granted at most where there is nothing to pay, as with a promotion code of '
'100 percent.';
comment on column credits.billing_settings.allow_promotion_codes is
'Whether Stripe''s checkout page takes promotion codes.';
comment on column credits.billing_settings.max_checkouts_per_minute is
'How many pages of Stripe''s, to pay on or of the billing portal, one account may open in a minute.';
comment on column credits.billing_settings.refund_second_subscriptions is
'Whether the payments of a second subscription, which is cancelled, are refunded at once (true) or by the operator.';
comment on column credits.billing_settings.automatic_tax is
'Whether Stripe Tax calculates taxes at checkout. It needs tax settings in Stripe.';
comment on column credits.billing_settings.tax_id_collection is
'Whether Stripe''s checkout page asks businesses for their tax id.';
comment on column credits.billing_settings.billing_address_collection is
'auto: Stripe''s checkout page asks for an address where it needs one; required: always.';
comment on column credits.billing_settings.stripe_livemode is
'Whether Stripe''s live events count (true) or its test events (false); the others are quarantined.';
comment on column credits.billing_settings.stripe_account is
'The connected account (acct_…) whose events count; null for the platform''s own.';
comment on column credits.billing_settings.stripe_payload_retention is
'How long the payloads of Stripe''s events are kept, and what is noted of events that were ignored.';
comment on column credits.billing_settings.freeze_on_fraud_warning is
'Whether a card issuer''s early fraud warning freezes the account that paid, until an operator unfreezes it. False '
'notes it only. It counts when the warning comes: what was noted before freezes nothing later.';
