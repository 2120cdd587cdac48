create function public.begin_generation(
  operation text,
  quantity integer,
  request text,
  idempotency_key text default null,
  options jsonb default '{}',
  inputs integer default 0,
  mask boolean default false,
  prompt_length integer default 0,
  files text[] default '{}'
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  account uuid := credits.open_account(credits.caller());
  full_up jsonb;
  job public.generation_jobs;
  code text;
  message text;
  details text;
  hint text;
begin
  if coalesce(request, '') !~ '^[0-9a-f]{64}$' then
    perform credits.fail(
      'PT400', 'request must be the SHA-256 of the request, in hex.', '{}', 'Call the function generate instead.'
    );
  end if;
  full_up := credits.check_generation_limits(account, idempotency_key);
  if full_up is not null then
    return full_up;
  end if;
  begin
    job := credits.open_generation(
      account, operation, quantity, request, idempotency_key, coalesce(options, '{}'), coalesce(inputs, 0),
      coalesce(mask, false), coalesce(prompt_length, 0), coalesce(files, '{}')
    );
  exception
    when others then
      if sqlstate not like 'PT%' then
        raise;
      end if;
      get stacked diagnostics
        code = returned_sqlstate, message = message_text, details = pg_exception_detail, hint = pg_exception_hint;
      return credits.refuse_softly(code, message, details, hint);
  end;
  return credits.job_json(job);
end
$$;

comment on function public.begin_generation is
'Reserves the signed-in user''s credits for quantity outputs of the operation and opens a job, for the function '
'generate. request: SHA-256 of the request, in hex. options, inputs (number of images), mask (whether there is one) '
'and prompt_length (characters) count by the terms of the price; files are the paths of inputs in Storage. With '
'idempotency_key a repeat returns the same job as it is now; with anything changed it is PT409. Returns the job with '
'credits_held, credits_charged, available. Errors as hold_credits, PT400 for what does not fit the terms, PT404 and '
'PT413 for files, and PT429 beyond billing_settings.max_generations_per_minute or max_generations_in_flight '
'(details: limit, retry_after in seconds). A refusal counts as a call too.';

grant execute on function public.begin_generation to authenticated;
