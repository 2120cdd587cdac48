create function credits.pass_thaw(account_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  heir uuid := credits.successor(account_id);
begin
  update public.credit_accounts as h
  set frozen_at = null, frozen_by = null, frozen_reason = null, updated_at = credits.now()
  where h.id = heir and h.frozen_by = 'dispute' and not credits.is_disputed(h.id);
  if found then
    perform credits.pass_thaw(heir);
  end if;
end
$$;

comment on function credits.pass_thaw(uuid) is
'Unfreezes the successor of an account whose disputes are over, if one had frozen it and it has no others.';
