create function credits.stripe_id(reference jsonb) returns text
language sql
immutable
as $$
  select case jsonb_typeof(reference) when 'object' then reference ->> 'id' else reference #>> '{}' end;
$$;

comment on function credits.stripe_id(jsonb) is
'The id in a field that names another Stripe object: the field is the id, or the object itself where it was expanded.';
