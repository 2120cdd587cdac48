alter table credits.billing_settings
add column signup_bonus bigint not null default 10,
add column signup_bonus_lifetime interval,
add column anonymous_credits boolean not null default false,
add column low_balance bigint not null default 5,
add constraint low_balance_must_be_0_to_1000000000000 check (low_balance between 0 and 1000000000000),
add constraint signup_bonus_must_be_0_to_1000000 check (signup_bonus between 0 and 1000000),
add constraint signup_bonus_lifetime_must_be_1_second_to_100_years check (
  credits.lasts(signup_bonus_lifetime, '1 second', '100 years')
);

comment on column credits.billing_settings.signup_bonus is
'Credits granted once to a user, and to an address, when the first e-mail address or phone number is confirmed; 0 for '
'none.';
comment on column credits.billing_settings.signup_bonus_lifetime is 'How long the bonus lives; null for ever.';
comment on column credits.billing_settings.anonymous_credits is
'Whether anonymous users may hold credits: with false they get no account, grant or checkout (PT403); what they hold '
'already they may spend. The bonus they never get.';
comment on column credits.billing_settings.low_balance is
'With so many credits available, or fewer, user_credits calls a balance low.';
