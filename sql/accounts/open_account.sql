create function credits.open_account(user_id uuid) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  account uuid := credits.account_of(user_id);
begin
  if exists (select from credits.account_addresses as d where d.account_id = account) then
    return account;
  end if;

  if account is null then
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
      account := credits.account_of(user_id);
    end if;
  end if;
  if
    exists (select from auth.users as u where u.id = open_account.user_id and u.is_anonymous)
    and not (select s.anonymous_credits from credits.billing_settings as s)
  then
    perform credits.fail(
      'PT403', 'Sign up first: anonymous users hold no credits.', '{"is_anonymous": true}',
      'Give the user an e-mail address or a phone number and confirm it.'
    );
  end if;
  perform credits.note_addresses(account, user_id);
  return account;
end
$$;

comment on function credits.open_account(uuid) is
'Opens the user''s account, or finds it; returns its id. With the first confirmed address come bonus, debt and freeze: '
'see note_addresses. Safe to call twice, also at once. PT404 for a user that does not exist, PT403 for an anonymous '
'one unless billing_settings.anonymous_credits.';
