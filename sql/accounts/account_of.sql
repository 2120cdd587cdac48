create function credits.account_of(user_id uuid) returns uuid
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return (select a.id from public.credit_accounts as a where a.user_id = account_of.user_id);
end
$$;

comment on function credits.account_of(uuid) is
'The user''s account, null when there is none. The one place that turns a user into an account; only consume_credits '
'does so itself, in its UPDATE.';
