create function credits.generation_terms(terms jsonb) returns jsonb
language sql
stable
as $$
  select jsonb_build_object(
    'output', coalesce(terms ->> 'output', 'image'),
    'deadline_seconds', coalesce((terms ->> 'deadline_seconds')::integer, 120),
    'charge_refusals', coalesce((terms ->> 'charge_refusals')::boolean, false)
  );
$$;

comment on function credits.generation_terms(jsonb) is
'What pricing_tiers.terms say of the run of a job, defaults filled in: {output: image, text or video; '
'deadline_seconds; charge_refusals}. Of a job: by the price that its hold pinned. Without a SET clause it is planned '
'as part of its caller.';
