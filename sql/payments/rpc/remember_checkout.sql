create function public.remember_checkout(
  account_id uuid,
  session_id text,
  request text,
  url text,
  expires_at timestamptz
) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  mine credits.plan_checkouts;
  kept credits.plan_checkouts;
begin
  if not exists (select from public.credit_accounts as a where a.id = remember_checkout.account_id) then
    perform credits.fail(
      'PT404', 'There is no such account.', jsonb_build_object('account_id', account_id), 'Check the account id.'
    );
  end if;
  -- One at a time an account, so that of two that were opened at once the second sees the first.
  perform credits.lock_stripe_object('checkout ' || account_id);
  with gone as (
    delete from credits.plan_checkouts as c
    where c.account_id = remember_checkout.account_id and c.expires_at < credits.now() - interval '2 days'
    returning c.session_id
  )

  delete from credits.stripe_objects as o 
  where o.purchase_id is null and o.id in (select g.session_id from gone as g);
  insert into credits.stripe_objects (id, account_id)
  values (remember_checkout.session_id, remember_checkout.account_id)
  on conflict on constraint stripe_objects_pkey do nothing;
  if
    exists (
      select from credits.stripe_objects as o
      where o.id = remember_checkout.session_id and o.account_id <> remember_checkout.account_id
    )
  then
    perform credits.fail(
      'PT409', 'The session is another account''s.', jsonb_build_object('session_id', session_id), 'Open another.'
    );
  end if;
  insert into credits.plan_checkouts (session_id, account_id, request, url, expires_at)
  values (session_id, account_id, request, url, expires_at)
  on conflict on constraint plan_checkouts_pkey do nothing;

  select * into mine
  from credits.plan_checkouts as c
  where c.session_id = remember_checkout.session_id and c.account_id = remember_checkout.account_id;
  if mine.closed_at is not null or mine.expires_at <= credits.now() then
    return jsonb_build_object('session', null, 'close', '[]'::jsonb);
  end if;
  -- Of two that ask for the same the first is kept, else the newest.
  select * into kept
  from credits.plan_checkouts as c
  where
    c.account_id = mine.account_id
    and c.closed_at is null
    and c.expires_at > credits.now()
    and c.request = mine.request
  order by c.created_at, c.session_id
  limit 1;
  return jsonb_build_object(
    'session', jsonb_build_object('id', kept.session_id, 'url', kept.url),
    'close', (
      select coalesce(jsonb_agg(c.session_id order by c.created_at), '[]')
      from credits.plan_checkouts as c
      where
        c.account_id = mine.account_id
        and c.closed_at is null
        and c.expires_at > credits.now()
        and c.session_id <> kept.session_id
    )
  );
end
$$;

comment on function public.remember_checkout(uuid, text, text, text, timestamptz) is
'For the function checkout: notes a session for a plan that it has opened. Returns {session: {id, url}, close}: the '
'one to send the user to, and the ids of those that have to be expired before; session is null when this one is known '
'to be closed, and another has to be opened. request: SHA-256 of what was asked for. Errors: PT404 no such account, '
'PT409 another account''s session.';

grant execute on function public.remember_checkout(uuid, text, text, text, timestamptz) to service_role;
