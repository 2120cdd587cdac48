create function credits.address_hashes(user_id uuid) returns bytea[]
language sql
stable
set search_path = ''
as $$
  select array_agg(h.hash order by h.hash)
  from auth.users as u
  cross join lateral (
    values
    ('email:' || credits.normal_email(u.email::text), u.email_confirmed_at is not null),
    ('phone:' || nullif(regexp_replace(u.phone, '\D', '', 'g'), ''), u.phone_confirmed_at is not null)
  ) as a (address, is_confirmed)
  cross join lateral (
    select credits.hmac_sha256(s.value, convert_to(a.address, 'UTF8')) as hash
    from credits.secrets as s
    where s.name = 'addresses'
  ) as h
  where
    u.id = address_hashes.user_id
    -- What Auth leaves of a user that was softly deleted is no address.
    and u.deleted_at is null
    and not u.is_anonymous
    and a.is_confirmed
    and a.address is not null;
$$;

comment on function credits.address_hashes(uuid) is
'The keyed hashes of the user''s confirmed addresses, e-mail and phone, in order; null for none, as for an anonymous '
'user. Only who has the database can tell whether a hash is that of an address.';
