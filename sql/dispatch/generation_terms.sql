create function credits.generation_terms(metadata jsonb) returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'deadline_seconds', case
      when jsonb_typeof(metadata -> 'deadline_seconds') = 'number'
        then least(greatest((metadata ->> 'deadline_seconds')::numeric, 5), 86400)
      else 120
    end,
    'provider_cost', case
      when jsonb_typeof(metadata -> 'provider_cost') = 'number'
        then greatest((metadata ->> 'provider_cost')::numeric, 0)
    end,
    'charge_refusals', metadata -> 'charge_refusals' is not distinct from 'true'
  );
$$;

comment on function credits.generation_terms(jsonb) is
'What pricing_tiers.metadata says of dispatch: {deadline_seconds: 5 to 86400, default 120; provider_cost: US dollars a '
'unit, null when not said; charge_refusals: default false}.';
