create table credits.billing_settings (
  id boolean primary key default true,
  signup_bonus bigint not null default 10,
  signup_bonus_lifetime interval,
  hold_ttl interval not null default '15 minutes',
  hold_ttl_max interval not null default '24 hours',
  refund_grace interval not null default '30 days',
  max_quantity integer not null default 10000,
  max_grant bigint not null default 1000000000,
  max_generations_per_minute integer not null default 60,
  max_generations_in_flight integer not null default 10,
  max_input_files integer not null default 100,
  max_input_bytes bigint not null default 200000000,
  input_retention interval not null default '7 days',
  orphan_retention interval not null default '1 day',
  default_currency text not null default 'usd',
  stripe_livemode boolean not null default false,
  stripe_account text,
  stripe_payload_retention interval not null default '90 days',
  constraint only_one_row check (id),
  constraint signup_bonus_must_be_0_to_1000000 check (signup_bonus between 0 and 1000000),
  constraint signup_bonus_lifetime_must_be_over_0 check (signup_bonus_lifetime > '0'),
  constraint hold_ttl_must_be_over_0_and_at_most_hold_ttl_max check (hold_ttl > '0' and hold_ttl <= hold_ttl_max),
  constraint hold_ttl_max_must_be_2_minutes_to_30_days check (hold_ttl_max between '2 minutes' and '30 days'),
  constraint refund_grace_must_be_over_0 check (refund_grace > '0'),
  constraint max_quantity_must_be_1_to_1000000 check (max_quantity between 1 and 1000000),
  constraint max_grant_must_be_1_to_1000000000000 check (max_grant between 1 and 1000000000000),
  constraint max_generations_per_minute_must_be_0_or_more check (max_generations_per_minute >= 0),
  constraint max_generations_in_flight_must_be_0_or_more check (max_generations_in_flight >= 0),
  constraint max_input_files_must_be_0_or_more check (max_input_files >= 0),
  constraint max_input_bytes_must_be_0_or_more check (max_input_bytes >= 0),
  constraint input_retention_must_be_an_hour_or_more check (input_retention >= '1 hour'),
  constraint orphan_retention_must_be_an_hour_or_more check (orphan_retention >= '1 hour'),
  constraint default_currency_must_be_an_iso_4217_code_in_lower_case check (default_currency ~ '^[a-z]{3}$'),
  constraint stripe_account_must_start_with_acct check (stripe_account ~ '^acct_[A-Za-z0-9_]+$'),
  constraint stripe_payload_retention_must_be_over_0 check (stripe_payload_retention > '0')
);

insert into credits.billing_settings default values;

alter table credits.billing_settings enable row level security;
alter table credits.billing_settings force row level security;
revoke all on table credits.billing_settings from anon, authenticated, service_role;

comment on table credits.billing_settings is 'Settings of the ledger: exactly one row. Change it with UPDATE.';
comment on column credits.billing_settings.id is 'Always true: there is one row.';
comment on column credits.billing_settings.signup_bonus is 'Credits granted when an account opens; 0 for none.';
comment on column credits.billing_settings.signup_bonus_lifetime is 'How long the bonus lives; null for ever.';
comment on column credits.billing_settings.hold_ttl is 'How long a hold lives when its maker does not say. '
'Those of generations live as long as their job may, whatever it says.';
comment on column credits.billing_settings.hold_ttl_max is 'The longest hold that may be asked for, and the longest '
'that a generation may take. At least two minutes: a generation needs one and 45 seconds to begin with.';
comment on column credits.billing_settings.refund_grace is
'How long refunded credits live when the lot they came from has expired.';
comment on column credits.billing_settings.max_quantity is 'The largest quantity of one quote, spend or hold.';
comment on column credits.billing_settings.max_grant is 'The largest single grant, in credits.';
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
comment on column credits.billing_settings.stripe_livemode is
'Whether Stripe''s live events count (true) or its test events (false); the others are quarantined.';
comment on column credits.billing_settings.stripe_account is
'The connected account (acct_…) whose events count; null for the platform''s own.';
comment on column credits.billing_settings.stripe_payload_retention is
'How long the payloads of Stripe''s events are kept once they are done.';
