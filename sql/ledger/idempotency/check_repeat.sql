create function credits.check_repeat(idempotency_key text, is_same boolean) returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if is_same is not true then
    perform credits.fail(
      'PT409', 'This idempotency_key was used for another request.',
      jsonb_build_object('idempotency_key', idempotency_key), 'Use a new key for a new request.'
    );
  end if;
end
$$;

comment on function credits.check_repeat(text, boolean) is
'PT409 unless the call asks for what its idempotency key was used for. A ledger row says itself what that was, and the '
'caller compares it; a hold does not say all of it (a prompt, a lifetime), so it keeps a hash of the request.';
