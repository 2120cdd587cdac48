create table credits.allotment_sources (
  account_id uuid not null,
  transaction_id bigint not null,
  purchase_id bigint not null,
  part numeric not null,
  constraint allotment_sources_pkey primary key (account_id, transaction_id, purchase_id),
  constraint allotment_sources_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint allotment_sources_purchase_id_fkey foreign key (account_id, purchase_id)
  references public.purchases (account_id, id),
  constraint part_must_be_0_or_more check (part >= 0)
);

alter table credits.allotment_sources enable row level security;
alter table credits.allotment_sources force row level security;
revoke all on table credits.allotment_sources from anon, authenticated, service_role;

comment on table credits.allotment_sources is
'Which purchases paid for a month''s grant, where a change of plan paid for a part of it. A grant that is not here was '
'paid by its own purchase alone.';
comment on column credits.allotment_sources.transaction_id is 'credit_transactions.id of the grant.';
comment on column credits.allotment_sources.purchase_id is 'purchases.id of the period, or of the change.';
comment on column credits.allotment_sources.part is 'Credits of the grant that it paid for.';
