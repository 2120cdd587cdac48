create function credits.check_request() returns void
language plpgsql
stable
-- So that it may call credits.fail, which no API role can.
security definer
set search_path = ''
as $$
declare
  claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
begin
  -- No token, or one that says no more than that: what anon may do, anyone may.
  if claims is null or claims - 'role' = '{}' and claims ->> 'role' = 'anon' then
    return;
  end if;
  if jsonb_typeof(claims -> 'exp') is distinct from 'number' then
    perform credits.fail('PT401', 'The token never expires.', '{"claim": "exp"}', 'Sign in again to get a token with exp.');
  end if;
  if claims ->> 'role' = 'authenticated' then
    if coalesce(claims ->> 'sub', '') !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
      perform credits.fail('PT401', 'The token names no user.', '{"claim": "sub"}', 'Sign in again to get a token with sub.');
    end if;
    if not coalesce(claims -> 'aud' @> '"authenticated"', false) then
      perform credits.fail(
        'PT401', 'The token is meant for another audience.', '{"claim": "aud"}',
        'Use a token of this project: aud must be "authenticated".'
      );
    end if;
  end if;
end
$$;

comment on function credits.check_request() is
'PostgREST''s db-pre-request: refuses with PT401 a token without exp, and a user''s token without a user id in '
'sub or with an aud other than "authenticated". PostgREST has verified signature and expiry before.';

grant execute on function credits.check_request() to anon, authenticated, service_role;

-- PostgREST reads it from its login role; a running one hears of it by the notification.
alter role authenticator set "pgrst.db_pre_request" = 'credits.check_request';
notify pgrst, 'reload config';
