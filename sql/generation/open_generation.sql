create function credits.open_generation(
  account_id uuid,
  operation text,
  quantity integer,
  request text,
  idempotency_key text,
  options jsonb,
  inputs integer,
  mask boolean,
  prompt_length integer,
  files text[]
) returns public.generation_jobs
language plpgsql
set search_path = ''
as $$
declare
  price record;
  wrong record;
  hold public.credit_holds;
  job public.generation_jobs;
begin
  select * into price
  from credits.generation_price(
    open_generation.operation, open_generation.quantity, open_generation.options, open_generation.inputs,
    open_generation.mask, open_generation.prompt_length
  );
  select * into wrong from credits.inputs_refusal(account_id, files);
  hold := credits.hold_at_price(
    account_id, operation, price.units, price.unit_price, price.version, case when wrong.code is null then price.amount end,
    interval '1 minute' + credits.sweep_grace(), idempotency_key,
    -- All that decides about the price is in it, and hold_credits makes another: what is begun with a key is what was
    -- paid for.
    credits.keyed_hash(
      idempotency_key, 'begin_generation', operation, quantity::text, request, options::text, inputs::text, mask::text,
      prompt_length::text, files::text
    ),
    '{}',
    is_limited => false
  );
  if hold.id is null then
    if price.version is null then
      perform credits.refuse_price(operation, quantity);
    elsif price.refusal is not null then
      perform credits.fail(
        'PT400', price.refusal, jsonb_build_object('operation', operation),
        'The terms of an operation are in its row of pricing_tiers.'
      );
    end if;
    perform credits.fail(wrong.code, wrong.message, '{}', 'Upload it again, or name another.');
  end if;
  insert into public.generation_jobs (
    account_id, hold_id, operation, provider, model, quantity, options, request, deadline_at, created_at
  )
  select
    hold.account_id, hold.id, hold.operation, p.new ->> 'provider', p.new ->> 'model', open_generation.quantity,
    coalesce(price.settled, '{}'), open_generation.request, hold.created_at + interval '1 minute', hold.created_at
  from credits.pricing_tier_history as p
  where p.version = hold.price_version
  on conflict on constraint generation_jobs_hold_id_key do nothing
  returning * into job;
  if not found then
    select * into job from public.generation_jobs as j
    where j.account_id = hold.account_id and j.hold_id = hold.id;
  end if;
  return job;
end
$$;

comment on function credits.open_generation is
'Holds the credits and opens the job, or finds the one that the same key and request opened. Provider, model and '
'options are those of the price that the hold pinned. Until it is dispatched the job has a minute.';
