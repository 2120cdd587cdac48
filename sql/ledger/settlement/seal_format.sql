create function credits.seal_format() returns smallint
language sql
immutable
as $$
  select 1::smallint;
$$;

comment on function credits.seal_format() is
'The format of the seals that are made now; each keeps its own (ledger_seals.format), by which it is verified. A '
'column that comes later needs no other one: credits.ledger_line appends it where it is not null, and no old row has '
'it. Only what changes the line of rows that are there does.';
