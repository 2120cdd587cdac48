create function credits.handle_user() returns trigger
language plpgsql
security definer
set search_path = ''
-- Nobody waits longer than that for a session that deals with the same address.
set lock_timeout = '2s'
as $$
begin
  perform credits.note_addresses(credits.open_account(new.id), new.id);
  return null;
exception
  when others then
    -- A user who cannot sign up is worse than one whose account opens at the first call.
    raise warning 'credits: no account for user % yet: %', new.id, sqlerrm;
    return null;
end
$$;

comment on function credits.handle_user() is
'Opens an account for each user whose e-mail or phone number is confirmed, and notes the addresses that they change '
'to. Never blocks what Auth does: what fails here is done at the user''s first call.';

create trigger open_credit_account after insert on auth.users
for each row
when (not new.is_anonymous and (new.email_confirmed_at is not null or new.phone_confirmed_at is not null))
execute function credits.handle_user();

create trigger note_credit_addresses
after update of email, email_confirmed_at, phone, phone_confirmed_at, is_anonymous on auth.users
for each row
when (
  not new.is_anonymous
  and new.deleted_at is null
  and (new.email_confirmed_at is not null or new.phone_confirmed_at is not null)
  and (
    (old.email, old.phone, old.is_anonymous, old.email_confirmed_at is null, old.phone_confirmed_at is null)
    is distinct from
    (new.email, new.phone, new.is_anonymous, new.email_confirmed_at is null, new.phone_confirmed_at is null)
  )
)
execute function credits.handle_user();
