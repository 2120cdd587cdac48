create table credits.purchase_grants (
  account_id uuid not null,
  purchase_id bigint not null,
  transaction_id bigint not null,
  allotment_key text,
  month integer,
  is_late boolean not null default false,
  constraint purchase_grants_pkey primary key (account_id, purchase_id, transaction_id),
  constraint purchase_grants_purchase_id_fkey foreign key (account_id, purchase_id)
  references public.purchases (account_id, id),
  constraint purchase_grants_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint a_month_must_be_of_an_allotment check ((month is null) = (allotment_key is null))
);

create index purchase_grants_late on credits.purchase_grants (account_id) where is_late;

alter table credits.purchase_grants enable row level security;
alter table credits.purchase_grants force row level security;
revoke all on table credits.purchase_grants from anon, authenticated, service_role;

comment on table credits.purchase_grants is 'Which grants a purchase has brought.';
comment on column credits.purchase_grants.purchase_id is 'purchases.id.';
comment on column credits.purchase_grants.transaction_id is 'credit_transactions.id of the grant.';
comment on column credits.purchase_grants.allotment_key is
'allotments.key, where the purchase brings its credits month by month; else null.';
comment on column credits.purchase_grants.month is 'Which month of that period it is, from 1.';
comment on column credits.purchase_grants.is_late is
'Whether its time was over when it was granted: credits.end_late_grants may end it.';
