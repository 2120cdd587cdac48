create function credits.settlement_batch() returns integer
language sql
immutable
as $$
  select 1000;
$$;

comment on function credits.settlement_batch() is
'How many ledger rows a settlement takes at a time, and a seal covers at most: what bounds its memory. Without a SET '
'clause it is planned as part of its caller.';
