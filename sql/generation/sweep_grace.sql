create function credits.sweep_grace() returns interval
language sql
immutable
as $$
  select interval '45 seconds';
$$;

comment on function credits.sweep_grace() is
'How much longer than its job a hold lives, so that the sweep finds it: under a minute. Without a SET clause it is '
'planned as part of its caller.';
