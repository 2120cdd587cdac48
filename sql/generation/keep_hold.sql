create function credits.keep_hold(hold public.credit_holds, deadline timestamptz) returns void
language plpgsql
set search_path = ''
as $$
declare
  ends timestamptz := deadline + credits.sweep_grace();
begin
  update public.credit_holds as h set expires_at = ends 
  where h.account_id = hold.account_id and h.id = hold.id and h.status = 'held';
  if ends < hold.expires_at then
    update public.credit_accounts as a set next_expiry = ends where a.id = hold.account_id and a.next_expiry > ends;
  end if;
end
$$;

comment on function credits.keep_hold(public.credit_holds, timestamptz) is
'Lets an open hold live as long as its job may, and the sweep''s grace more. The caller has it from credits.lock_hold.';
