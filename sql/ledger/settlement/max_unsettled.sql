create function credits.max_unsettled() returns integer
language sql
immutable
as $$
  select 50000;
$$;

comment on function credits.max_unsettled() is
'With so many ledger rows unsettled a spend or a capture settles some first, so that a grant, which needs all of them '
'settled, never takes long. More than the busiest account writes between two maintenances. Without a SET clause it is '
'planned as part of its caller.';
