create table credits.usage_logs (
  account_id uuid not null references public.credit_accounts (id),
  id bigint not null,
  provider text not null,
  model text not null,
  operation text not null,
  units numeric not null,
  latency_ms integer,
  status text not null,
  provider_cost numeric,
  hold_id uuid,
  transaction_id bigint,
  created_at timestamptz not null default clock_timestamp(),
  tokens jsonb,
  constraint usage_logs_pkey primary key (account_id, id),
  constraint usage_logs_hold_id_fkey foreign key (account_id, hold_id)
  references public.credit_holds (account_id, id) on delete set null (hold_id),
  constraint usage_logs_transaction_id_fkey foreign key (account_id, transaction_id)
  references public.credit_transactions (account_id, id),
  constraint units_must_not_be_negative check (units >= 0 and units < 'infinity'),
  constraint latency_ms_must_not_be_negative check (latency_ms >= 0),
  constraint status_must_be_known check (status in ('succeeded', 'partial', 'refused', 'failed', 'unknown')),
  constraint provider_cost_must_not_be_negative check (provider_cost >= 0 and provider_cost < 'infinity')
);

create index usage_logs_hold_id on credits.usage_logs (account_id, hold_id) where hold_id is not null;
create index usage_logs_transaction_id on credits.usage_logs (account_id, transaction_id)
where transaction_id is not null;

alter table credits.usage_logs enable row level security;
alter table credits.usage_logs force row level security;
revoke all on table credits.usage_logs from anon, authenticated, service_role;
-- For the view public.usage_logs. What providers cost is nobody's to see but the operator's, in SQL.
grant select (
  account_id, id, provider, model, operation, units, latency_ms, status, hold_id, transaction_id, created_at
) on credits.usage_logs to authenticated, service_role;
create policy own_usage on credits.usage_logs for select to authenticated
using (account_id = (select credits.my_account_id()));

comment on table credits.usage_logs is
'One row per provider call. No prompt, no output, no personal data. Users see their own in public.usage_logs, without '
'what providers cost.';
comment on column credits.usage_logs.id is '1, 2, 3 within the account.';
comment on column credits.usage_logs.units is 'What the provider delivered, in the price''s unit.';
comment on column credits.usage_logs.latency_ms is 'From the request to the last byte, milliseconds.';
comment on column credits.usage_logs.status is
'succeeded, partial (fewer units than asked), refused (by the provider''s policy), failed, unknown (no answer came).';
comment on column credits.usage_logs.provider_cost is 'What the provider charges for the call, US dollars.';
comment on column credits.usage_logs.tokens is
'What the provider counted, where it tells: {input_text, input_image, output_text, output_image}.';
comment on column credits.usage_logs.hold_id is
'The hold that the call ran under; null once that was deleted, which only happens to holds that charged nothing.';
comment on column credits.usage_logs.transaction_id is 'The spend or capture that paid for it.';
