create function credits.successor(account_id uuid) returns uuid
language sql
stable
set search_path = ''
as $$
  select d.successor_id
  from credits.account_addresses as d
  where d.account_id = successor.account_id and d.successor_id is not null;
$$;

comment on function credits.successor(uuid) is
'The account that took over from this one, whose user was deleted; null for none.';
