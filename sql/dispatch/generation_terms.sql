create function credits.generation_terms(job public.generation_jobs) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan; language sql would make it anew at every call.
  return (
    select jsonb_build_object(
      'deadline_seconds', case
        when jsonb_typeof(m.metadata -> 'deadline_seconds') = 'number'
          then least(greatest((m.metadata ->> 'deadline_seconds')::numeric, 5), 86400)
        else 120
      end,
      'charge_refusals', coalesce(m.metadata -> 'charge_refusals' = 'true', false)
    )
    from public.credit_holds as h
    inner join credits.pricing_tier_history as p on h.price_version = p.version
    cross join lateral (select p.new -> 'metadata' as metadata) as m
    where h.id = job.hold_id
  );
end
$$;

comment on function credits.generation_terms(public.generation_jobs) is
'What the price that the job''s hold pinned says of dispatch, in pricing_tiers.metadata: {deadline_seconds: 5 to '
'86400, default 120; charge_refusals: whether a refusal by the provider''s policy is charged, default false}.';
