create function credits.pass_thaw(account_id uuid, reason text) returns void
language plpgsql
set search_path = ''
as $$
declare
  heir uuid := credits.successor(account_id);
begin
  update public.credit_accounts as h
  set frozen_at = null, frozen_reason = null, updated_at = credits.now()
  where h.id = heir and h.frozen_reason = reason and not credits.is_disputed(h.id);
  if found then
    perform credits.pass_thaw(heir, reason);
  end if;
end
$$;

comment on function credits.pass_thaw(uuid, text) is
'Unfreezes the successor of an account whose disputes are over, if that was the reason and it has no others.';
