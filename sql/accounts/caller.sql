create function credits.caller() returns uuid
language sql
stable
as $$
  select coalesce(auth.uid(), credits.refuse_anonymous());
$$;

comment on function credits.caller() is
'The signed-in user''s id; PT403 without one. Every spend asks: without a SET clause it is planned as part of its '
'caller.';
