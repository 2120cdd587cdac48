create function public.knows_generation(idempotency_key text) returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
begin
  return exists (
    select from public.credit_holds as h
    inner join public.credit_accounts as a on h.account_id = a.id
    where a.user_id = me and h.idempotency_key = knows_generation.idempotency_key
  );
end
$$;

comment on function public.knows_generation(text) is
'Whether the signed-in user has sent the key before, so that begin_generation answers as it did then, or that the key '
'is taken. Errors: PT403 not signed in.';

grant execute on function public.knows_generation(text) to authenticated;
