create table credits.billing_settings (
  id boolean primary key default true,
  signup_bonus bigint not null default 10,
  signup_bonus_lifetime interval,
  anonymous_credits boolean not null default false,
  hold_ttl interval not null default '15 minutes',
  hold_ttl_max interval not null default '24 hours',
  refund_grace interval not null default '30 days',
  late_grant_grace interval not null default '30 days',
  max_quantity integer not null default 10000,
  max_grant bigint not null default 1000000000,
  max_holds_per_minute integer not null default 60,
  max_open_holds integer not null default 100,
  max_unused_holds integer not null default 1000,
  hold_retention interval not null default '30 days',
  max_generations_per_minute integer not null default 60,
  max_generations_in_flight integer not null default 10,
  max_input_files integer not null default 100,
  max_input_bytes bigint not null default 200000000,
  input_retention interval not null default '7 days',
  orphan_retention interval not null default '1 day',
  default_currency credits.currency_code not null default 'usd',
  max_packages integer not null default 10,
  max_free_packages integer not null default 1,
  allow_promotion_codes boolean not null default false,
  max_checkouts_per_minute integer not null default 20,
  refund_second_subscriptions boolean not null default true,
  automatic_tax boolean not null default false,
  tax_id_collection boolean not null default false,
  billing_address_collection text not null default 'auto',
  stripe_livemode boolean not null default false,
  stripe_account text,
  stripe_payload_retention interval not null default '90 days',
  freeze_on_fraud_warning boolean not null default false,
  constraint only_one_row check (id),
  constraint signup_bonus_must_be_0_to_1000000 check (signup_bonus between 0 and 1000000),
  constraint signup_bonus_lifetime_must_be_1_second_to_100_years check (
    credits.lasts(signup_bonus_lifetime, '1 second', '100 years')
  ),
  constraint hold_ttl_must_be_1_second_to_hold_ttl_max check (credits.lasts(hold_ttl, '1 second', hold_ttl_max)),
  constraint hold_ttl_max_must_be_2_minutes_to_30_days check (credits.lasts(hold_ttl_max, '2 minutes', '30 days')),
  constraint refund_grace_must_be_1_second_to_100_years check (credits.lasts(refund_grace, '1 second', '100 years')),
  constraint late_grant_grace_must_be_0_to_10_years check (credits.lasts(late_grant_grace, '0', '10 years')),
  constraint max_quantity_must_be_1_to_1000000 check (max_quantity between 1 and 1000000),
  constraint max_grant_must_be_1_to_1000000000000 check (max_grant between 1 and 1000000000000),
  constraint max_holds_per_minute_must_be_0_to_10000 check (max_holds_per_minute between 0 and 10000),
  constraint max_open_holds_must_be_0_to_10000 check (max_open_holds between 0 and 10000),
  constraint max_unused_holds_must_be_0_to_10000 check (max_unused_holds between 0 and 10000),
  constraint hold_retention_must_be_1_hour_to_100_years check (credits.lasts(hold_retention, '1 hour', '100 years')),
  constraint max_generations_per_minute_must_be_0_or_more check (max_generations_per_minute >= 0),
  constraint max_generations_in_flight_must_be_0_or_more check (max_generations_in_flight >= 0),
  constraint max_input_files_must_be_0_or_more check (max_input_files >= 0),
  constraint max_input_bytes_must_be_0_or_more check (max_input_bytes >= 0),
  constraint input_retention_must_be_an_hour_or_more check (input_retention >= '1 hour'),
  constraint orphan_retention_must_be_an_hour_or_more check (orphan_retention >= '1 hour'),
  constraint max_packages_must_be_1_to_1000 check (max_packages between 1 and 1000),
  constraint max_free_packages_must_be_1_to_1000 check (max_free_packages between 1 and 1000),
  constraint max_checkouts_per_minute_must_be_0_or_more check (max_checkouts_per_minute >= 0),
  constraint billing_address_collection_must_be_auto_or_required check (
    billing_address_collection in ('auto', 'required')
  ),
  constraint stripe_account_must_start_with_acct check (stripe_account ~ '^acct_[A-Za-z0-9_]+$'),
  constraint stripe_payload_retention_must_be_1_second_to_100_years check (
    credits.lasts(stripe_payload_retention, '1 second', '100 years')
  )
);

insert into credits.billing_settings default values;

alter table credits.billing_settings enable row level security;
alter table credits.billing_settings force row level security;
revoke all on table credits.billing_settings from anon, authenticated, service_role;

comment on table credits.billing_settings is 'Settings of the ledger: exactly one row. Change it with UPDATE.';
comment on column credits.billing_settings.id is 'Always true: there is one row.';
comment on column credits.billing_settings.signup_bonus is
'Credits granted once to a user, and to an address, when the first e-mail address or phone number is confirmed; 0 for '
'none.';
comment on column credits.billing_settings.signup_bonus_lifetime is 'How long the bonus lives; null for ever.';
comment on column credits.billing_settings.anonymous_credits is
'Whether anonymous users may hold credits: with false they get no account, grant or checkout (PT403); what they hold '
'already they may spend. The bonus they never get.';
comment on column credits.billing_settings.hold_ttl is 'How long a hold lives when its maker does not say. '
'Those of generations live as long as their job may, whatever it says.';
comment on column credits.billing_settings.hold_ttl_max is 'The longest hold that may be asked for, and the longest '
'that a generation may take. At least two minutes: a generation needs one and 45 seconds to begin with.';
comment on column credits.billing_settings.refund_grace is
'How long refunded credits live when the lot they came from has expired.';
comment on column credits.billing_settings.late_grant_grace is
'How long the credits of a subscription''s newest period live when its payment is heard of after the period is over; 0 '
'for not at all. Those of periods before it expire at once, as they would have in time.';
comment on column credits.billing_settings.max_quantity is 'The largest quantity of one quote, spend or hold.';
comment on column credits.billing_settings.max_grant is 'The largest single grant, in credits.';
comment on column credits.billing_settings.max_holds_per_minute is
'How many holds one account may make in any 60 seconds. Those of generations have their own limits.';
comment on column credits.billing_settings.max_open_holds is
'How many holds one account may have open at once, those of generations not counted.';
comment on column credits.billing_settings.max_unused_holds is
'How many holds that ended without a capture or a provider''s call are kept of one account: the newest.';
comment on column credits.billing_settings.hold_retention is
'How long a hold is kept that ended without a capture, and a generation that charged nothing.';
comment on column credits.billing_settings.max_generations_per_minute is
'How many generations one account may ask for in a minute, refused ones included.';
comment on column credits.billing_settings.max_generations_in_flight is
'How many generations of one account may be under way at once.';
comment on column credits.billing_settings.max_input_files is
'How many files one account may have below inputs/ in the bucket generations. The newest beyond it are swept.';
comment on column credits.billing_settings.max_input_bytes is
'How many bytes these files may have together. The newest beyond it are swept.';
comment on column credits.billing_settings.input_retention is
'How old a file below inputs/ gets before it is swept. At least an hour.';
comment on column credits.billing_settings.orphan_retention is
'How long the files of a job that is over stay when they are not its outputs, before they are swept. At least an hour.';
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
'How long the payloads of Stripe''s events are kept once they are done.';
comment on column credits.billing_settings.freeze_on_fraud_warning is
'Whether a card issuer''s early fraud warning freezes the account that paid, until an operator unfreezes it. False '
'notes it only. It counts when the warning comes: what was noted before freezes nothing later.';
