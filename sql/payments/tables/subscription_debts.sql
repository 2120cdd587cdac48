create table credits.subscription_debts (
  account_id uuid not null,
  purchase_id bigint not null,
  subscription_id text not null,
  period_start timestamptz not null,
  period_end timestamptz not null,
  amount bigint not null,
  owed bigint not null,
  constraint subscription_debts_pkey primary key (account_id, purchase_id),
  constraint subscription_debts_purchase_id_fkey foreign key (account_id, purchase_id)
  references public.purchases (account_id, id),
  constraint owed_must_be_0_to_amount check (owed between 0 and amount)
);

alter table credits.subscription_debts enable row level security;
alter table credits.subscription_debts force row level security;
revoke all on table credits.subscription_debts from anon, authenticated, service_role;

comment on table credits.subscription_debts is
'What a downgrade takes back of credits that subscriptions granted: one row per invoice that does.';
comment on column credits.subscription_debts.purchase_id is 'purchases.id of the invoice.';
comment on column credits.subscription_debts.subscription_id is 'subscriptions.id.';
comment on column credits.subscription_debts.period_start is 'When the change took effect.';
comment on column credits.subscription_debts.period_end is 'The end of the period whose credits are too many.';
comment on column credits.subscription_debts.amount is 'Credits that the invoice takes back.';
comment on column credits.subscription_debts.owed is
'Credits still to be taken, because they were spent. Not those that refunds have taken, that have expired unused, or '
'whose grant is yet to come.';
