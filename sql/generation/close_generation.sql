create function credits.close_generation(
  job public.generation_jobs,
  hold public.credit_holds,
  status public.generation_status,
  delivered integer,
  usage_status text,
  outputs jsonb,
  error jsonb,
  latency_ms integer,
  provider_cost numeric,
  tokens jsonb default null
) returns public.generation_jobs
language plpgsql
set search_path = ''
as $$
declare
  -- With the unit "second" an output is as many units as it has seconds.
  units_each integer := hold.quantity / job.quantity;
  paid public.credit_transactions;
  closed public.generation_jobs;
begin
  if delivered > 0 then
    paid := credits.capture(hold, delivered * units_each, jsonb_build_object('job', job.id));
  elsif hold.status = 'held' then
    perform credits.release(hold, close_generation.status::text);
  end if;
  update public.generation_jobs as j
  set
    status = close_generation.status,
    outputs = coalesce(close_generation.outputs, '[]'),
    error = close_generation.error,
    -- The hold's: where an operator captured it by hand.
    transaction_id = coalesce(paid.id, hold.transaction_id),
    finished_at = credits.now()
  where j.account_id = job.account_id and j.id = job.id
  returning * into closed;
  if job.dispatched_at is not null then
    perform credits.log_usage(
      job.account_id, job.provider, job.model, job.operation, jsonb_array_length(closed.outputs) * units_each,
      usage_status, latency_ms,
      coalesce(
        close_generation.provider_cost,
        credits.call_cost(
          job.provider, job.model, tokens,
          case
            when usage_status in ('succeeded', 'unknown') then job.quantity
            when usage_status = 'partial' then delivered
            -- The provider has done its part.
            when error ->> 'code' = 'not_stored' then job.quantity
            else 0
          end,
          (job.options ->> 'duration')::numeric
        )
      ),
      job.hold_id, closed.transaction_id, tokens
    );
  end if;
  return closed;
end
$$;

comment on function credits.close_generation is
'Ends a job: captures what was delivered or releases the hold, notes the outcome, logs the provider call with its cost '
'(as told, else by credits.call_cost: for refusals and failures their tokens, if any), unless no provider was asked. '
'delivered: how many outputs to charge. The caller holds the locks of both, and asks to capture only what is held.';
