create table credits.usage_days (
  account_id uuid not null references public.credit_accounts (id),
  day date not null,
  price_version bigint not null,
  transactions bigint not null,
  quantity bigint not null,
  spent bigint not null,
  refunded bigint not null,
  refunded_of bigint not null,
  constraint usage_days_pkey primary key (account_id, day, price_version)
);

alter table credits.usage_days enable row level security;
alter table credits.usage_days force row level security;
revoke all on table credits.usage_days from anon, authenticated, service_role;

comment on table credits.usage_days is
'Spends, captures and refunds added up by account, day in the account''s time zone (credits.account_zones) and price, '
'which tells operation, provider and model. Kept by settlement, so it lacks what is not settled yet: '
'credits.usage_as_of_now has that, too.';
comment on column credits.usage_days.day is 'In the account''s time zone.';
comment on column credits.usage_days.price_version is
'credits.pricing_tier_history.version; of a refund that of the transaction which it gives back.';
comment on column credits.usage_days.transactions is 'Spends and captures.';
comment on column credits.usage_days.quantity is 'Units bought.';
comment on column credits.usage_days.spent is 'Credits spent.';
comment on column credits.usage_days.refunded is 'Credits refunded, on the day of the refund.';
comment on column credits.usage_days.refunded_of is
'Credits refunded of what was spent on this day, whenever that was.';
