create schema credits;

comment on schema credits is
'Credits: everything that clients do not reach. PostgREST does not expose it. The API roles have USAGE '
'only so that the pre-request check and the policies resolve; every object in it is granted by name.';

-- Without `in schema`: a default that is revoked inside one schema only leaves the global grant to PUBLIC in place.
alter default privileges revoke execute on functions from public;
-- What older Supabase projects hand to the API roles for every new function in public.
alter default privileges in schema public revoke execute on functions from anon, authenticated, service_role;

grant usage on schema credits to anon, authenticated, service_role;
