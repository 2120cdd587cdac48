create function credits.generation_terms(metadata jsonb) returns jsonb
language sql
stable
as $$
  select jsonb_build_object(
    'deadline_seconds', case
      when jsonb_typeof(metadata -> 'deadline_seconds') = 'number'
        then least(greatest((metadata ->> 'deadline_seconds')::numeric, 5), 86400)
      else 120
    end,
    'charge_refusals', coalesce(metadata -> 'charge_refusals' = 'true', false)
  );
$$;

comment on function credits.generation_terms(jsonb) is
'What a price says of dispatch, by its pricing_tiers.metadata: {deadline_seconds: 5 to 86400, default 120; '
'charge_refusals: whether a refusal by the provider''s policy is charged, default false}. Of a job: by the price that '
'its hold pinned. Without a SET clause it is planned as part of its caller.';
