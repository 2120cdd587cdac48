alter table credits.billing_settings
add column max_grant bigint not null default 1000000000,
add column refund_grace interval not null default '30 days',
add column hold_ttl interval not null default '15 minutes',
add column hold_ttl_max interval not null default '24 hours',
add column max_holds_per_minute integer not null default 60,
add column max_open_holds integer not null default 100,
add column max_unused_holds integer not null default 1000,
add column hold_retention interval not null default '30 days',
add column settle_after interval not null default '1 hour',
add constraint hold_ttl_must_be_1_second_to_hold_ttl_max check (credits.lasts(hold_ttl, '1 second', hold_ttl_max)),
add constraint hold_ttl_max_must_be_2_minutes_to_30_days check (credits.lasts(hold_ttl_max, '2 minutes', '30 days')),
add constraint refund_grace_must_be_1_second_to_100_years check (credits.lasts(refund_grace, '1 second', '100 years')),
add constraint max_grant_must_be_1_to_1000000000000 check (max_grant between 1 and 1000000000000),
add constraint max_holds_per_minute_must_be_0_to_10000 check (max_holds_per_minute between 0 and 10000),
add constraint max_open_holds_must_be_0_to_10000 check (max_open_holds between 0 and 10000),
add constraint max_unused_holds_must_be_0_to_10000 check (max_unused_holds between 0 and 10000),
add constraint hold_retention_must_be_1_hour_to_100_years check (credits.lasts(hold_retention, '1 hour', '100 years')),
add constraint settle_after_must_be_0_to_1_day check (credits.lasts(settle_after, '0', '1 day'));

comment on column credits.billing_settings.max_grant is 'The largest single grant, in credits.';
comment on column credits.billing_settings.refund_grace is
'How long refunded credits live when the lot they came from has expired.';
comment on column credits.billing_settings.hold_ttl is 'How long a hold lives when its maker does not say. '
'Those of generations live as long as their job may, whatever it says.';
comment on column credits.billing_settings.hold_ttl_max is 'The longest hold that may be asked for, and the longest '
'that a generation may take. At least two minutes: a generation needs one and 45 seconds to begin with.';
comment on column credits.billing_settings.max_holds_per_minute is
'How many holds one account may make in any 60 seconds. Those of generations have their own limits.';
comment on column credits.billing_settings.max_open_holds is
'How many holds one account may have open at once, those of generations not counted.';
comment on column credits.billing_settings.max_unused_holds is
'How many holds that ended without a capture or a provider''s call are kept of one account: the newest.';
comment on column credits.billing_settings.hold_retention is
'How long a hold is kept that ended without a capture, and a generation that charged nothing.';
comment on column credits.billing_settings.settle_after is
'How long a ledger row waits for its settlement, where the account is not settled for another reason before: a grant, '
'an expiry, a whole batch of rows, the end of its day (UTC). What is read adds what waits, but credits.ledger_seals '
<<<<<<< HEAD
'lacks it.';
=======
'and credits.daily_usage lack it.';
>>>>>>> main
