create function credits.keep_hold(hold_id uuid, deadline timestamptz) returns void
language plpgsql
set search_path = ''
as $$
declare
  hold public.credit_holds := credits.lock_hold(keep_hold.hold_id);
begin
  update public.credit_holds as h set expires_at = deadline + interval '45 seconds'
  where h.id = hold.id and h.status = 'held';
  update public.credit_accounts as a set next_expiry = least(a.next_expiry, deadline + interval '45 seconds')
  where a.id = hold.account_id and a.next_expiry > deadline + interval '45 seconds';
end
$$;

comment on function credits.keep_hold(uuid, timestamptz) is
'Lets an open hold live as long as its job may, and 45 seconds more for the sweep: under a minute past the deadline.';
