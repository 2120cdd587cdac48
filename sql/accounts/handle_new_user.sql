create function credits.handle_new_user() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform credits.open_account(new.id);
  return null;
exception
  when others then
    -- A user who cannot sign up is worse than one whose account opens at the first call.
    raise warning 'credits: no account for user % yet: %', new.id, sqlerrm;
    return null;
end
$$;

comment on function credits.handle_new_user() is
'Opens an account for each new user. Never blocks the sign-up: what fails here is done at the user''s first call.';

create trigger open_credit_account after insert on auth.users
for each row execute function credits.handle_new_user();
