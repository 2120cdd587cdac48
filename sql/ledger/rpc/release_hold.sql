create function public.release_hold(account_id uuid, hold_id uuid, reason text default null)
returns public.credit_holds
language plpgsql
security definer
set search_path = ''
as $$
declare
  hold public.credit_holds;
begin
  if char_length(reason) > 500 then
    perform credits.fail('PT400', 'reason has more than 500 characters.', '{}', 'Say it shorter.');
  end if;
  hold := credits.lock_hold(account_id, hold_id);
  if hold.status = 'captured' then
    perform credits.fail(
      'PT409', 'The hold was captured; it cannot be released.',
      jsonb_build_object('hold_id', hold.id, 'transaction_id', hold.transaction_id), 'Give credits back with refund.'
    );
  elsif hold.status <> 'held' then
    return hold;
  end if;
  return credits.release(hold, reason);
end
$$;

comment on function public.release_hold(uuid, uuid, text) is
'Operator: gives back everything that a hold of the account reserved; returns the hold. Releasing one that is released '
'or expired does nothing. Errors: PT400 reason, PT404 the account has no such hold, PT409 captured.';

grant execute on function public.release_hold(uuid, uuid, text) to service_role;
