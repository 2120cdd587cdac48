create function credits.next_expiry(account_id uuid, moment timestamptz) returns timestamptz
language sql
stable
set search_path = ''
as $$
  select least(
    (
      select min(g.expires_at)
      from credits.credit_grants as g
      where g.account_id = next_expiry.account_id and g.is_live and g.expires_at > moment
    ),
    (
      select min(h.expires_at)
      from public.credit_holds as h
      where h.account_id = next_expiry.account_id and h.status = 'held'
    )
  );
$$;

comment on function credits.next_expiry(uuid, timestamptz) is
'When time alone next changes the account after the moment: its first lot or open hold to expire; null for never.';
