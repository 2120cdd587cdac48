create function public.finish_generation(
  account_id uuid,
  job_id uuid,
  outcome text,
  outputs jsonb default '[]',
  error jsonb default null,
  latency_ms integer default null,
  provider_cost numeric default null,
  tokens jsonb default null
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  job public.generation_jobs := credits.lock_generation(account_id, job_id);
  hold public.credit_holds;
  delivered integer;
  charged integer;
begin
  if job.finished_at is not null then
    return credits.job_json(job);
  elsif outcome is null or outcome not in ('succeeded', 'refused', 'failed', 'canceled') then
    perform credits.fail(
      'PT400', 'outcome must be succeeded, refused, failed or canceled.', jsonb_build_object('outcome', outcome),
      'It says how the provider''s call ended.'
    );
  elsif jsonb_typeof(outputs) is distinct from 'array' then
    perform credits.fail('PT400', 'outputs must be an array.', '{}', 'Send one object for each output.');
  end if;
  delivered := jsonb_array_length(outputs);
  if (outcome = 'succeeded') <> (delivered > 0) or delivered > job.quantity then
    perform credits.fail(
      'PT400', format('A job of %s cannot have %s with %s outputs.', job.quantity, outcome, delivered),
      jsonb_build_object('quantity', job.quantity, 'outputs', delivered), 'Only a job that succeeded has outputs.'
    );
  end if;

  hold := credits.lock_hold(job.account_id, job.hold_id);
  if hold.status <> 'held' then
    -- Its time was over before its outcome came: what the provider did is our loss.
    job := credits.expire_generation(job, hold);
    return credits.job_json(job);
  end if;
  charged := delivered;
  if outcome = 'refused' and (
    select (credits.generation_terms(p.new -> 'terms') ->> 'charge_refusals')::boolean
    from credits.pricing_tier_history as p
    where p.version = hold.price_version
  ) then
    charged := job.quantity;
  end if;
  job := credits.close_generation(
    job, hold, outcome::public.generation_status, charged,
    case
      when outcome = 'succeeded' and delivered < job.quantity then 'partial'
      when outcome = 'canceled' then 'failed'
      else outcome
    end,
    outputs, error, latency_ms, provider_cost, tokens
  );
  return credits.job_json(job);
end
$$;

comment on function public.finish_generation is
'For the function generate, once a provider''s call has ended: charges what was delivered and releases the rest; '
'logs the call. outcome: succeeded (with 1 to quantity outputs), refused, failed or canceled. error: {status, code, '
'message} for the client. provider_cost: US dollars; else by '
'credits.call_cost from tokens, {input_text, input_image, output_text, output_image}, and outputs. A job that is '
'over, expired included, stays as it is. Returns the job with credits_charged and available. Errors: PT400, PT404.';

grant execute on function public.finish_generation to service_role;
