create function credits.note_addresses(account_id uuid, user_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  hashes bytea[] := credits.address_hashes(user_id);
  hash bytea;
  is_new boolean;
  earlier uuid;
  inherited uuid[] := array[]::uuid[];
  settings credits.billing_settings;
begin
  if hashes is null then
    return;
  end if;
  -- Whoever signs up with one of these addresses at the same time waits, and then sees what was written here.
  foreach hash in array hashes loop
    perform pg_advisory_xact_lock(hashtextextended('credits.address ' || encode(hash, 'hex'), 0));
  end loop;
  is_new := not exists (
    select from credits.account_addresses as d where d.account_id = note_addresses.account_id
  );
  insert into credits.account_addresses (address, account_id)
  select h.address, note_addresses.account_id from unnest(hashes) as h (address)
  on conflict on constraint account_addresses_pkey do nothing;
  -- An account that had an address before is another person's, or was there already: it inherits nothing, or a debt
  -- could be put on whoever takes an address.
  if not is_new then
    return;
  end if;

  -- Whoever took over from one of these and was deleted, too, has what it owes.
  for earlier in
    with recursive line (id) as (
      select d.account_id from credits.account_addresses as d
      where d.address = any(hashes) and d.account_id <> note_addresses.account_id
      union
      select d.successor_id
      from line
      inner join credits.account_addresses as d on line.id = d.account_id
      where d.successor_id is not null
    )

    select a.id
    from public.credit_accounts as a
    where
      a.id in (select line.id from line)
      and credits.successor(a.id) is null
      and (a.user_id is null or exists (select from auth.users as u where u.id = a.user_id and u.deleted_at is not null))
    order by a.id
    for no key update of a
  loop
    if credits.successor(earlier) is null then
      update credits.account_addresses as d set successor_id = note_addresses.account_id
      where (d.address, d.account_id) = (
        select o.address, o.account_id from credits.account_addresses as o
        where o.account_id = earlier
        limit 1
      );
      inherited := inherited || earlier;
      perform credits.pass_debt(earlier);
    end if;
  end loop;

  -- A frozen account that lives keeps its debt; a second one for the same mailbox is frozen as well.
  update public.credit_accounts as a
  set frozen_at = credits.now(), frozen_by = f.frozen_by, frozen_reason = f.frozen_reason, updated_at = credits.now()
  from (
    select o.frozen_by, o.frozen_reason
    from public.credit_accounts as o
    where
      o.frozen_at is not null
      and (
        o.id = any(inherited)
        or o.id in (
          select d.account_id from credits.account_addresses as d
          where d.address = any(hashes) and d.account_id <> note_addresses.account_id
        )
        and credits.address_hashes(o.user_id) && hashes
      )
    order by o.frozen_at
    limit 1
  ) as f
  where a.id = note_addresses.account_id and a.frozen_at is null;

  select * into settings from credits.billing_settings;
  if settings.signup_bonus > 0 and not exists (
    select from credits.account_addresses as d
    inner join public.credit_transactions as t on d.account_id = t.account_id
    where d.address = any(hashes) and t.idempotency_key = 'sys:signup_bonus'
  ) then
    perform credits.grant_to_account(
      account_id, settings.signup_bonus, 'bonus', credits.now() + settings.signup_bonus_lifetime, null,
      'sys:signup_bonus', '{}'
    );
  end if;
end
$$;

comment on function credits.note_addresses(uuid, uuid) is
'Notes the confirmed addresses of the account''s user. The first time, the account takes over the debt of accounts '
'whose users were deleted and had one of these addresses, or which took over from such a one, is frozen as they are, '
'or as one that has such an address now, and gets the sign-up bonus, unless an account that has had one of them got '
'it before. Safe to call twice, also at once.';
