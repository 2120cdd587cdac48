create function credits.email_to_tell(user_id uuid, told bytea) returns text
language sql
stable
set search_path = ''
as $$
  select u.email::text
  from auth.users as u
  where
    u.id = user_id
    and u.email <> ''
    and sha256(convert_to(u.email, 'UTF8')) is distinct from told;
$$;

comment on function credits.email_to_tell(uuid, bytea) is
'The user''s e-mail address, unless it is what Stripe was told (by its SHA-256) or there is none: then null.';
