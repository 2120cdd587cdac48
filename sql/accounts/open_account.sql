create function credits.open_account(user_id uuid) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  account uuid;
  settings credits.billing_settings;
begin
  select a.id into account from public.credit_accounts as a where a.user_id = open_account.user_id;
  if found then
    return account;
  end if;

  begin
    -- A null passes the foreign key and would open an account that is nobody's.
    if user_id is null then
      raise foreign_key_violation;
    end if;
    insert into public.credit_accounts (user_id) values (open_account.user_id)
    on conflict on constraint credit_accounts_user_id_key do nothing
    returning id into account;
  exception
    when foreign_key_violation then
      perform credits.fail(
        'PT404', 'There is no such user.', jsonb_build_object('user_id', open_account.user_id), 'Check the user id.'
      );
  end;
  if account is null then
    return (select a.id from public.credit_accounts as a where a.user_id = open_account.user_id);
  end if;
  select * into settings from credits.billing_settings;
  if settings.signup_bonus > 0 then
    perform credits.grant_to_account(
      account, settings.signup_bonus, 'bonus', credits.now() + settings.signup_bonus_lifetime, null, 'sys:signup_bonus',
      null, '{}'
    );
  end if;
  return account;
end
$$;

comment on function credits.open_account(uuid) is
'Opens the user''s account with the sign-up bonus, or finds it; returns its id. Safe to call twice, also at once. '
'PT404 for a user that does not exist.';
