create function credits.refuse_anonymous() returns uuid
language plpgsql
stable
set search_path = ''
as $$
begin
  perform credits.fail('PT403', 'Nobody is signed in.', '{}', 'Call with a user''s access token.');
  return null;
end
$$;

comment on function credits.refuse_anonymous() is
'PT403. Returns a uuid only so that credits.caller can be one expression.';
