create table credits.allotments (
  account_id uuid not null,
  purchase_id bigint not null,
  subscription_id text not null,
  period_start timestamptz not null,
  period_end timestamptz not null,
  credits bigint not null,
  months integer,
  key text not null,
  rollover interval,
  rollover_cap bigint,
  priority integer,
  next_at timestamptz,
  cost_basis bigint,
  constraint allotments_pkey primary key (account_id, purchase_id, key),
  constraint allotments_purchase_id_fkey foreign key (account_id, purchase_id)
  references public.purchases (account_id, id),
  constraint a_period_has_months_and_a_change_has_none check (num_nulls(months, rollover, priority) in (0, 3)),
  constraint months_must_be_positive check (months > 0),
  constraint the_next_month_must_be_a_periods check (next_at is null or months is not null)
);

create unique index allotments_period on credits.allotments (account_id, subscription_id, period_end)
where months is not null;
create index allotments_changes on credits.allotments (account_id, subscription_id, period_end) where months is null;
create index allotments_due on credits.allotments (next_at) where next_at is not null;

alter table credits.allotments enable row level security;
alter table credits.allotments force row level security;
revoke all on table credits.allotments from anon, authenticated, service_role;

comment on table credits.allotments is
'Paid periods whose credits come month by month (subscription_plans.monthly_allotment), one row per invoice: a period, '
'or a change of plan within one, with months null.';
comment on column credits.allotments.purchase_id is 'purchases.id of the invoice.';
comment on column credits.allotments.subscription_id is 'subscriptions.id.';
comment on column credits.allotments.period_start is
'The start of the period; of a change, the month that it counts from.';
comment on column credits.allotments.credits is
'Credits of the whole period; of a change, what it adds to the months that follow, below 0 for less.';
comment on column credits.allotments.months is 'In how many parts they come.';
comment on column credits.allotments.key is
'Stripe''s id of the line, the ledger takes each month of it once; of a change, invoice_grants_and_rollover.key.';
comment on column credits.allotments.rollover is 'As the plan said when the period was paid.';
comment on column credits.allotments.rollover_cap is 'As the plan said, for each month; null for all.';
comment on column credits.allotments.priority is 'Of the lots, as the plan said.';
comment on column credits.allotments.cost_basis is
'What is paid for these credits without taxes, in minor units of the purchase''s currency; below 0 for a downgrade, '
'null for unknown.';
comment on column credits.allotments.next_at is
'When the next month begins that has not been looked at; null for none.';
