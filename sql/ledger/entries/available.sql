create function credits.available(balance bigint, held bigint) returns bigint
language sql
immutable
as $$
  select greatest(0, balance - held);
$$;

comment on function credits.available(bigint, bigint) is
'credit_accounts.available of a balance and what is held of it, in credits. Spends and holds subtract from it instead, '
'where its type refuses to go below 0.';
