create function credits.accounts_of_mailbox(account_id uuid) returns setof uuid
language sql
stable
set search_path = ''
as $$
  select accounts_of_mailbox.account_id
  union
  select o.account_id
  from credits.account_addresses as d
  inner join credits.account_addresses as o on d.address = o.address
  where d.account_id = accounts_of_mailbox.account_id;
$$;

comment on function credits.accounts_of_mailbox(uuid) is
'The account, and those that have had a confirmed address of its: what comes once per address comes once to all of '
'them.';
