create function credits.pass_freeze(account_id uuid, over text default null) returns void
language plpgsql
set search_path = ''
as $$
declare
  heir uuid := credits.successor(account_id);
begin
  update public.credit_accounts as h
  set frozen_at = credits.now(), frozen_reason = a.frozen_reason, updated_at = credits.now()
  from public.credit_accounts as a
  where
    h.id = heir
    and (h.frozen_at is null or h.frozen_reason = over)
    and a.id = pass_freeze.account_id and a.frozen_at is not null;
  if found then
    perform credits.pass_freeze(heir, over);
  end if;
end
$$;

comment on function credits.pass_freeze(uuid, text) is
'Freezes the successor of a frozen account, if it has one, for the same reason; also one that was frozen for '
'the reason over.';
