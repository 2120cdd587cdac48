create function credits.open_generation(
  operation text,
  quantity integer,
  request text,
  idempotency_key text
) returns public.generation_jobs
language plpgsql
set search_path = ''
as $$
declare
  hold public.credit_holds;
  job public.generation_jobs;
begin
  hold := credits.make_hold(
    operation, quantity, idempotency_key,
    ttl => interval '1 minute' + credits.sweep_grace(), metadata => jsonb_build_object('request', request),
    is_limited => false
  );
  insert into public.generation_jobs (
    account_id, hold_id, operation, provider, model, quantity, deadline_at, created_at
  )
  select
    hold.account_id, hold.id, hold.operation, p.new ->> 'provider', p.new ->> 'model', hold.quantity,
    hold.created_at + interval '1 minute', hold.created_at
  from credits.pricing_tier_history as p
  where p.version = hold.price_version
  on conflict on constraint generation_jobs_hold_id_key do nothing
  returning * into job;
  if not found then
    select * into job from public.generation_jobs as j where j.hold_id = hold.id;
  end if;
  return job;
end
$$;

comment on function credits.open_generation(text, integer, text, text) is
'Holds the credits and opens the job, or finds the one that the same key and request opened. Provider and model are '
'those of the price that the hold pinned. Until it is dispatched the job has a minute.';
