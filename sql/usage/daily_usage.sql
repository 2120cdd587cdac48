create table credits.daily_usage (
  account_id uuid not null references public.credit_accounts (id),
  day date not null,
  operation text not null,
  transactions bigint not null,
  quantity bigint not null,
  spent bigint not null,
  refunded bigint not null,
  constraint daily_usage_pkey primary key (account_id, day, operation)
);

alter table credits.daily_usage enable row level security;
alter table credits.daily_usage force row level security;
revoke all on table credits.daily_usage from anon, authenticated, service_role;

comment on table credits.daily_usage is
'Spends, captures and refunds rolled up by account, UTC day and operation, for operators. Kept by settlement, so it '
'lacks what is not settled yet: of an account what came since credit_accounts.unsettled_since, of today up to '
'billing_settings.settle_after. Maintenance settles what is of an earlier day as soon as that is over: a day is '
'complete once no account has unsettled_since before its end.';
comment on column credits.daily_usage.day is 'UTC.';
comment on column credits.daily_usage.transactions is 'Spends and captures.';
comment on column credits.daily_usage.quantity is 'Units bought.';
comment on column credits.daily_usage.spent is 'Credits spent.';
comment on column credits.daily_usage.refunded is 'Credits refunded, on the day of the refund.';
