create function credits.my_account_id() returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  select credits.account_of(auth.uid());
$$;

comment on function credits.my_account_id() is
'The account of the signed-in user, null when there is none. Policies call it as (select credits.my_account_id()), '
'once per query.';

grant execute on function credits.my_account_id() to authenticated;
