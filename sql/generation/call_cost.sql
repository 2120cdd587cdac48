create function credits.call_cost(
  provider text,
  model text,
  tokens jsonb,
  outputs integer,
  seconds numeric
) returns numeric
language sql
stable
set search_path = ''
as $$
  select coalesce(
    (
      -- A kind of tokens that is counted and has no price makes the sum unknown.
      select case when bool_and(p.price is not null) then sum(t.value::numeric * p.price) / 1000000 end
      from jsonb_each_text(case jsonb_typeof(tokens) when 'object' then tokens else '{}' end) as t
      left join (
        values
        ('input_text', c.input_text), ('input_image', c.input_image), ('output_text', c.output_text),
        ('output_image', c.output_image)
      ) as p (kind, price) on t.key = p.kind
      where t.value ~ '^[0-9]{1,12}$' and t.value <> '0'
    ),
    c.cost_per_second * seconds * outputs,
    c.cost_per_output * outputs
  )
  from credits.provider_costs as c
  where c.provider = call_cost.provider and c.model = call_cost.model;
$$;

comment on function credits.call_cost(text, text, jsonb, integer, numeric) is
'What a provider''s call cost us, US dollars, by credits.provider_costs: its tokens ({input_text, input_image, '
'output_text, output_image}) where they are known and have prices, else its outputs, by the seconds of one or each. '
'Null where the row does not say.';
