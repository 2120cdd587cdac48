create function credits.pass_freeze(account_id uuid, over public.freeze_cause default null) returns void
language plpgsql
set search_path = ''
as $$
declare
  heir uuid := credits.successor(account_id);
begin
  update public.credit_accounts as h
  set frozen_at = credits.now(), frozen_by = a.frozen_by, frozen_reason = a.frozen_reason, updated_at = credits.now()
  from public.credit_accounts as a
  where
    h.id = heir
    and (h.frozen_at is null or h.frozen_by = over)
    and a.id = pass_freeze.account_id and a.frozen_at is not null;
  if found then
    perform credits.pass_freeze(heir, over);
  end if;
end
$$;

comment on function credits.pass_freeze(uuid, public.freeze_cause) is
'Freezes the successor of a frozen account, if it has one, for the same cause; also one that is frozen for the cause '
'over.';
