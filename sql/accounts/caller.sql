create function credits.caller() returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  me uuid := auth.uid();
begin
  if me is null then
    perform credits.fail('PT403', 'Nobody is signed in.', '{}', 'Call with a user''s access token.');
  end if;
  return me;
end
$$;

comment on function credits.caller() is 'The signed-in user''s id; PT403 without one.';
