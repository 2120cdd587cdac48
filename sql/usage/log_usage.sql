create function credits.log_usage(
  account_id uuid,
  provider text,
  model text,
  operation text,
  units numeric,
  status text,
  latency_ms integer default null,
  provider_cost numeric default null,
  hold_id uuid default null,
  transaction_id bigint default null,
  tokens jsonb default null
) returns credits.usage_logs
language plpgsql
set search_path = ''
as $$
declare
  entry credits.usage_logs;
begin
  -- The number is drawn under the account's lock.
  perform from public.credit_accounts as a where a.id = log_usage.account_id for no key update;
  insert into credits.usage_logs (
    account_id, id, provider, model, operation, units, status, latency_ms, provider_cost, hold_id, transaction_id,
    tokens
  )
  values (
    log_usage.account_id,
    (select coalesce(max(u.id), 0) + 1 from credits.usage_logs as u where u.account_id = log_usage.account_id),
    log_usage.provider, log_usage.model, log_usage.operation, log_usage.units, log_usage.status,
    log_usage.latency_ms, log_usage.provider_cost, log_usage.hold_id, log_usage.transaction_id,
    log_usage.tokens
  )
  returning * into entry;
  return entry;
end
$$;

comment on function credits.log_usage is
'Writes one provider call to credits.usage_logs, under the account''s lock. For credits.close_generation, and the '
'operator''s own SQL.';
